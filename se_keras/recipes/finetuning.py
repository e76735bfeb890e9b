"""finetune.py: the steps around an enhancer that learns through a Quality-Net."""

from pathlib import Path

from se_keras import metrics, models, pretrained
from se_keras.errors import UserError
from se_keras.judges import targets
from se_keras.recipes.turns import STAGES_OF
from se_keras.scoring import evaluation
from se_keras.signals.stft import Stft
from se_keras.training import runs

BESIDE = ("pesq_raw", "stoi", "si_sdr")  # measured at every validation, whatever the target


def check_models(args, objective):
    """See that the models named can be what they are named for, before anything is loaded.

    Raises:
        UserError: they cannot; or a run to compare with is of another target.
    """
    pretrained.check_enhancers([args.enhancer])
    pretrained.check_judges(objective.judges)
    target = targets.parse(args.target, args.mapping) if args.target is not None else None
    if args.quality_net != "new":
        kinds = models.QUALITY_NETWORKS if args.update == "frozen" else "quality_net"  # the one of 2018 is only used frozen
        card = pretrained.read_card(args.quality_net, kinds)
        known = pretrained.read_target(card)
        for name, source in known.functions.items():
            if (then := card.get("weights", {}).get(name, source)) != source:
                raise UserError(f"{args.quality_net} has learned to predict {name} as it was before an edit ({then}); train it again, or "
                                "restore the function")
        if target and target.text != known.text:
            raise UserError(f"{args.quality_net} predicts {known.text}, not {target.text}; train one that does, or use --quality-net new")
        target = known
    for run in args.compare:
        if "true" not in runs.read_history(run):
            raise UserError(f"{run}: its history holds no true scores; --compare takes other fine-tunings")
        if (theirs := pretrained.read_target(runs.read_config(run))).text != (ours := target or targets.parse("pesq_raw")).text:
            raise UserError(f"{run}: was fine-tuned towards {theirs.text}, this run towards {ours.text}; they do not fit into one figure")


def load_judge(args):
    """The `surrogate.QualityPredictor` to learn from, a trained one or a new one that knows nothing yet, and its builder's arguments."""
    from se_keras.judges.surrogate import QualityPredictor

    if args.quality_net != "new":
        return pretrained.load_quality_net(args.quality_net), pretrained.read_card(args.quality_net)["arguments"]
    target = targets.parse("pesq_raw" if args.target is None else args.target, args.mapping)
    config = Stft(**pretrained.read_card(args.enhancer)["stft"])
    arguments = models.resolve("quality_net", models.with_bins(args.quality_args, config))
    return QualityPredictor(models.build("quality_net", **arguments), config, args.input, target), arguments


def named_weights(args, objective):
    """{name: sha256} of the models that the flags name."""
    return {name: pretrained.sha256(name) for name in (args.enhancer, args.quality_net, *objective.judges) if name != "new"}


def describe(args, enhancer, card, target, objective):
    """The run's config (`runs.open_run`)."""
    weights = named_weights(args, objective) | target.functions
    return runs.describe(args, card["network"], {**card["arguments"], **args.model_args}, enhancer.config, family=enhancer.family,
                         weights=weights, target=target.to_config())


def quality_rounds(args, enhancer, predictor, arguments, feed, scorer, logger):
    """Quality-Net's part in the turns that it and the enhancer take: a copy of it that learns (`rounds.QualityRounds`)."""
    from se_keras.judges import diet, rounds, surrogate

    learner = models.build("quality_net", **arguments)
    learner.set_weights(predictor.network.get_weights())
    surrogate.compile_quality_net(learner, args.quality_rate, args.siblings, args.contrast)
    described = runs.describe(args, "quality_net", arguments, predictor.config, representation=predictor.representation,
                              target=predictor.target.to_config(), weights=predictor.target.functions)
    start = {} if args.quality_net == "new" else {args.quality_net: pretrained.sha256(args.quality_net)}
    runs.open_run(Path(args.out) / "quality-net", {**described, "name": f"{described['name']}/quality-net", "start": start})
    shown = {"perturbed": args.perturbed, "noisy_share": args.noisy_share, "clean_share": args.clean_share}
    stages = tuple(args.stages or STAGES_OF[args.update])
    turns = rounds.Turns(every=args.round, sample=args.sample, sample_of=args.sample_of, stages=stages, history_share=args.history_share,
                         history_pairs=args.history_pairs, step_size=args.step_size, batch=args.quality_batch, siblings=args.siblings,
                         contrast=args.contrast, lag=args.lag, anchored=args.anchor, diet=shown, seed=args.seed)
    base = None
    if args.anchor or args.base_rows:  # loaded again: the one that is fine-tuned will not stay what it is
        base = rounds.Base(pretrained.load_enhancer(args.enhancer, **args.model_args)[0])
    if args.base_rows:
        pairs = diet.diet(evaluation.subset(feed.rows, args.base_rows), 1, crop_s=args.crop or None, seed=args.seed, **shown)
        scores = diet.label(pairs, [base.enhancer], scorer, predictor.target, predictor.config, "base")
        base = rounds.Base(base.enhancer, *diet.known(pairs, scores))
    return rounds.QualityRounds(enhancer, learner, predictor, feed, scorer, turns, args.out, logger, base)


def write_page(args, enhancer, predictor, rows, scorer, history):
    """RUN/index.html: the validation mixtures before and after, to look at and listen to; and RUN/validation.csv, their scores.

    Args:
        args: of finetune.py.
        enhancer, predictor: with the weights that are kept.
        rows: validation rows.
        scorer: an open `scores.Scorer`.
        history: of the training.

    Returns:
        Path of the page.
    """
    from se_keras.enhancers.base import Noisy
    from se_keras.judges.honesty import best_of
    from se_keras.report import page, tables

    out, target = Path(args.out), predictor.target
    before, after = pretrained.load_enhancer(args.enhancer, **args.model_args)[0], enhancer.now()
    systems = [Noisy(), before, after]
    before.name, after.name = "before", "after"
    table = evaluation.evaluate(rows, systems, scorer, out / "validation.csv", predictor=predictor)
    columns = {name: [row[name] for row in history] for name in ("update", "predicted", "true")}
    by_id = {row.id: row for row in rows}
    summary = tables.summarise(table, [("after", "before")], metrics.about(scorer.names), target=target.label,
                               note=f"Scored on {len(rows):,} mixtures of {Path(args.data) / 'valid.jsonl'}, which chose the weights.")
    return page.write(out / "index.html", f"{out}: {args.enhancer} before and after fine-tuning", summary, table,
                      lambda ids: evaluation.waves_of([by_id[name] for name in ids], systems),
                      {**columns, "best": history[best_of(history, target.higher_is_better)]["update"], "label": target.label},
                      () if target.higher_is_better else ("Quality-Net",))


def draw(args, history, target):
    """The letter's Fig. 5 of this run; and, with others to compare, its Figs. 2 and 5 over all of them."""
    from se_keras.judges.honesty import best_of
    from se_keras.report import curves

    out = Path(args.out)
    columns = {name: [row[name] for row in history] for name in ("update", "predicted", "true")}
    best = history[best_of(history, target.higher_is_better)]["update"]
    print(curves.predicted_and_true_by_iteration(columns["update"], columns["predicted"], columns["true"], out / "predicted_and_true.png",
                                                  best=best, label=target.label))
    if args.compare:
        lines = {}
        for run in (out, *args.compare):
            said, table = runs.read_config(run)["training"], runs.read_history(run)
            kind = said.get("update", "frozen") if "quality" in said["loss"] else said["loss"].removesuffix(":1")
            lines[str(run) if kind in Path(run).name else f"{run} ({kind})"] = table[["update", "predicted", "true"]].to_numpy().T
        print(curves.true_by_iteration({name: line[[0, 2]] for name, line in lines.items()}, out / "true.png", label=target.label))
        print(curves.predicted_and_true_over_runs(lines, out / "predicted_and_true_over_runs.png", label=target.label))
