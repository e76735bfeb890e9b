"""train.py enhancer: a network towards the clean speech, by any loss."""

from pathlib import Path

from se_keras import backend, enhancers, losses, models, pretrained
from se_keras.errors import check_choice
from se_keras.mixtures.augment import Augmentation
from se_keras.scoring import evaluation
from se_keras.signals.stft import Stft
from se_keras.training import devices, runs


_JIT_PAYS = 1000  # updates; compiling takes as long as it saves in some 200


def train_enhancer(args, train_rows, valid_rows):
    """Train an enhancer and leave a run folder.

    Args:
        args: of train.py enhancer; its loss is written out in place.
        train_rows, valid_rows: manifest rows.

    Raises:
        UserError: what cannot be meant, before any work; a loss that is not a number, during it.
    """
    check_choice("--model", args.model, tuple(models.ENHANCERS))
    config = Stft.checked({**models.STFTS.get(args.model, {}), **args.stft})
    arguments = models.with_bins(args.model_args, config)
    objective = losses.parse(args.loss, judge=args.quality_net is not None, compression=args.compression)
    args.loss = objective.text
    del args.compression  # the loss holds it
    augment = Augmentation.checked(args.augment)
    named = [*objective.judges, *([args.quality_net] if args.quality_net else [])]
    pretrained.check_judges(named)
    weights = {name: pretrained.sha256(name) for name in named}
    devices.start(args, weights)
    from se_keras.enhancers.base import Noisy
    from se_keras.mixtures.feed import Feed
    from se_keras.models import recurrent
    from se_keras.scoring import scores
    from se_keras.training import examples, loop
    from se_keras.training import objective as training_objective

    loop.seed_everything(args.seed, args.deterministic)
    family = models.ENHANCERS[args.model]
    enhancer = enhancers.family(family)(models.build(args.model, **arguments), config)
    judge = pretrained.load_quality_net(args.quality_net) if objective.asks_judge else None
    judges = {name: pretrained.load_quality_net(name) for name in objective.judges}
    train_rows = evaluation.subset(train_rows, args.rows)
    feed = Feed(train_rows, args.batch, config, seed=args.seed, crop_s=args.crop or None, augment=augment,
                workers=args.workers if isinstance(args.workers, int) else backend.available_cores())
    args.jit = _jit(args, args.epochs * feed.batches_per_epoch)
    if args.jit == "on":
        recurrent.compile_loops(enhancer.network)
    described = runs.describe(args, args.model, models.resolve(args.model, arguments), config, family=family,
                              **({"weights": weights} if weights else {}))
    model = training_objective.objective_model(enhancer, objective, judge, judges)
    logger = runs.open_run(args.out, described)
    loop.compile_model(model, loop.optimizer(args.optimizer, args.learning_rate), training_objective.weighted_mean(objective),
                       training_objective.term_means(objective))
    plan = loop.Plan(updates=args.epochs * feed.batches_per_epoch, validate_every=feed.batches_per_epoch,
                     learning_rate=args.learning_rate, schedule=args.schedule, patience=args.patience,
                     checkpoint_s=args.checkpoint_every, monitor=args.monitor, higher_is_better=args.monitor != "valid_loss")

    with scores.Scorer(["pesq_raw", "stoi", "si_sdr"], cache=Path(args.data) / "scores", workers=args.workers) as scorer:
        scored = evaluation.subset(valid_rows, args.validation_rows)

        def validate():
            return {**training_objective.validation_loss(model, objective, valid_rows, config),
                    **evaluation.mean_scores(scored, enhancer.now(), scorer)}

        history = loop.train(model, feed, training_objective.objective_batch, plan, args.out, logger, validate, enhancer.network,
                             f"{args.model} {args.loss}", terms=objective.weights, examples=examples.Examples(scored, enhancer))
        best = next((row["pesq_raw"] for row in reversed(history) if row["best"]), None)  # of the weights that are kept
        noisy = evaluation.mean_scores(scored, Noisy(), scorer)["pesq_raw"]
    runs.finish(args.out, history, plan.monitor)
    if best is not None and best < noisy:
        print(f"worse than doing nothing: noisy speech scores {noisy:.3f} raw PESQ on the same mixtures, this enhancer {best:.3f}; train "
              "longer, or on more data")


def _jit(args, updates):
    """"on" or "off" for --jit auto: as the run that goes on had it, else whether it pays."""
    if args.jit != "auto":
        return args.jit
    if (Path(args.out) / "config.json").is_file():
        return runs.read_config(args.out).get("training", {}).get("jit", "off")
    return "on" if args.crop and updates >= _JIT_PAYS else "off"
