"""Export a model out of Python: ONNX, LiteRT, a Keras file or a SavedModel, checked by running the file."""

from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from se_keras import cli, files, models, pretrained
from se_keras.export import formats, forms, web

DESCRIPTION = """Export an enhancer or a Quality-Net for other runtimes. Each file is run and compared with Keras before it is kept.

  python export.py blstm-hearing --format onnx --out exported/       waves in, waves out, of any length
  python export.py lstm-ears --format litert --out exported/         also its streaming step, with the state as inputs and outputs
  python export.py lstm-ears --format litert --weights int8 --out exported/
  python export.py quality-net-ears --format keras --out exported/   degraded and clean wave in, PESQ out

FILE.json beside each file says what it takes and gives. docs/export.md shows how to run it."""


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("model", metavar="NAME|RUN", help="a shipped model, or a run folder of train.py or finetune.py")
    parser.add_argument("--format", choices=tuple(formats.SUFFIXES), required=True, help="keras is one .keras file, saved-model a folder")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the files; those of the same name are replaced")
    parser.add_argument("--form", nargs="+", choices=forms.FORMS,
                        help="wave: whole recordings; step: blocks of a stream, of a causal network; network: the network as it is, on "
                             "spectra; where not given, wave, and step where there is one")
    parser.add_argument("--weights", choices=formats.WEIGHTS["litert"], default="float32",
                        help="of litert: smaller files that are a little off (docs/export.md)")
    parser.add_argument("--web", metavar="DIR", help="also a page that enhances in the browser, with the onnxruntime-web of this folder "
                                                     "(npm install onnxruntime-web); of onnx")
    args = parser.parse_args(argv)
    if args.web and (args.format != "onnx" or "network" in (args.form or ())):
        parser.error("--web takes --format onnx, and the forms wave and step")
    card, out = pretrained.read_card(args.model), Path(args.out)
    if args.web:
        pretrained.check_enhancers([args.model])  # what scores has nothing to be heard
        web.check(args.web)
    formats.check(args.format, args.weights)
    from se_keras.export import making  # after the cheap checks: it takes a moment

    scores = card["network"] in models.QUALITY_NETWORKS
    holder = pretrained.load_quality_net(args.model) if scores else pretrained.load_enhancer(args.model)[0]
    made = {out / file_name(card["name"], form.kind, args.format, args.weights): form for form in forms.of(holder, args.form)}
    files.check_writable(out)
    for path in made:
        making.check_place(path, args.format)

    rows = []
    for path, form in tqdm(made.items(), desc=f"{args.model} to {args.format}", unit="file", disable=None):
        about = making.make(form, path, args.format, args.weights, card, holder)
        rows.append([path, form.kind, f"{size_mb(path):.2f}", f"{about['difference']:.1g}", f"{about['rtf']:.3f}"])
        if args.web:
            page = web.write(path.with_suffix(".html"), path, args.web)
            rows.append([page, "page", f"{size_mb(page):.2f}", "", ""])
    print(tabulate(rows, ("file", "form", "MB", "from Keras", "real-time factor"), disable_numparse=True))
    print("from Keras: largest difference of a sample or score; real-time factor: on one thread, as measured just now")


def file_name(name, kind, file_format, weights):
    """Such as lstm-ears.onnx, lstm-ears-step-int8.tflite."""
    parts = [name.replace("/", "-"), *([kind] if kind != "wave" else []), *([weights] if weights != "float32" else [])]
    return "-".join(parts) + formats.SUFFIXES[file_format]


def size_mb(path):
    """Megabytes of a file, or of all in a folder."""
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file()) / 1e6


if __name__ == "__main__":
    cli.run(main)
