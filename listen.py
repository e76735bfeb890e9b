"""A listening test of a report's systems: serve it to listeners, then evaluate their answers.

examples:
  python listen.py --report runs/report --systems blstm-mse blstm-hearing --out test.db
      an AB preference test of the utterances that the report's page plays; give listeners the link that is printed
  python listen.py --out test.db
      go on with it: after Ctrl-C, a crash or a restart every listener continues by the same link
  python listen.py --report runs/report --systems noisy blstm-mse blstm-hearing --kind mushra --out mushra.db
      ratings from 0 to 100 beside an open reference, with hidden reference and anchor
  python listen.py --out test.db --host 0.0.0.0
      for other machines: the link then holds a token, which only they should get
  python listen.py results test.db --report runs/report --out answers.csv
      preference, intervals, tests; the table goes into the report, every answer into answers.csv

ab: which sounds better, A, B or neither. abx: X is A or B; which one? mushra: ITU-R BS.1534. Each listener has a training, an order and
sides of its own, and never learns a system's name. What is stored and how it is evaluated: docs/listening.md.
"""

import argparse
import re
import secrets
import socket
from pathlib import Path

from se_keras import cli, files, listening
from se_keras.errors import UserError
from se_keras.listening import design, opening
from se_keras.listening.store import Store, create

PORT = 8765


def arguments(argv):
    parser = cli.parser(__doc__)
    parser.add_argument("--report", metavar="REPORT", help="folder of test.py, whose page holds the audio")
    parser.add_argument("--systems", nargs="+", metavar="SYSTEM", help="names in the report; ab and abx ask about every pair of them")
    parser.add_argument("--out", metavar="DB", help="the test and its answers, one SQLite file; where it exists, the test goes on")
    parser.add_argument("--kind", choices=listening.KINDS, help="where not given, ab")
    parser.add_argument("--trials", type=cli.positive_int, metavar="N",
                        help=f"of each listener, training and repeats aside; where not given, up to {design.USUAL_TRIALS}")
    parser.add_argument("--forced", action="store_true", help="ab without the answer \"no preference\"")
    parser.add_argument("--consent", metavar="FILE", help="what listeners agree to, as plain text; where not given, a short text is there")
    parser.add_argument("--seed", type=cli.from_zero_int, help="of orders and sides; where not given, 0")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at; any other than this machine's takes a token")
    parser.add_argument("--port", type=cli.from_zero_int, default=PORT, help="0 for any that is free")
    parser.add_argument("--token", metavar="TEXT", help="what the listeners' link must hold; made and kept where --host needs one")
    commands = parser.add_subparsers(dest="command", metavar="results", title="evaluation")
    results = commands.add_parser("results", help="evaluate the answers (python listen.py results --help)",
                                  description="Preference or ratings with intervals and tests, and who was excluded by which rule.")
    results.add_argument("database", metavar="DB", help="what --out made; the server may be running")
    results.add_argument("--report", metavar="REPORT", default=argparse.SUPPRESS,
                         help="put the table into REPORT/index.html, listening.md and listening.csv")
    results.add_argument("--out", metavar="CSV", default=argparse.SUPPRESS, help="every answer as a row")
    results.add_argument("--keep-all", action="store_true", help="exclude no listener")
    results.add_argument("--scripted", action="store_true", help="scripted listeners instead of people: a check, no result")
    return parser, parser.parse_args(argv)


def main(argv=None):
    parser, args = arguments(argv)
    if args.command == "results":
        return evaluate(args)
    if args.out is None:
        parser.error("--out is expected: the database of the test, new or to go on with")
    listening.check_installed("starlette", "uvicorn")
    from se_keras.listening import server

    if args.port > 65_535:
        raise UserError(f"--port {args.port}: ports end at 65535")
    if args.token is not None and not re.fullmatch(r"[\w.~-]{8,200}", args.token, re.ASCII):  # what an address may hold as it is
        raise UserError("--token: expected 8 to 200 letters, digits or any of _ . ~ - that are hard to guess; or leave it out")
    out, local = Path(args.out), server.is_local(args.host)
    if not out.exists() and None in (args.report, args.systems):
        raise UserError(f"{out}: is not there yet; a new test takes --report REPORT and --systems SYSTEM SYSTEM")
    made = None if out.exists() else opening.new(args.report, args.kind or "ab", args.systems, args.trials, args.seed or 0, args.forced,
                                                 args.consent)
    with server.bound(args.host, args.port) as sock:  # before anything is written
        if made:
            files.check_writable(out.parent)
            create(out, *made)
        store = Store(out)
        if not made:
            opening.check_same(store, args.report, kind=args.kind, systems=args.systems, trials=args.trials, seed=args.seed,
                               forced=args.forced or None, consent=args.consent)
        token = args.token or store.settings["token"] or (None if local else secrets.token_urlsafe(24))
        store.keep_token(token)
        say(store, args.host, sock.getsockname()[1], local)
        try:
            server.serve(store, sock, local)
        except KeyboardInterrupt:
            print(f"\nstopped; every answer is in {out}")
        finally:
            store.close()
    return 0


def say(store, host, port, local):
    """Print the link for listeners, and what else one needs to know."""
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    link = f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (f"#{store.settings['token']}" if store.settings["token"] else "")
    plan, listeners = store.design, store.listeners()
    print(f"{plan.kind} test of {', '.join(plan.systems)}: {plan.trials} trials a listener"
          + (f" and {plan.repeats} repeats" if plan.repeats else "") + f", {plan.items} utterances"
          + (f", {design.TRAINING} of them for the training alone" if plan.set_aside else ""))
    print(f"{len(listeners)} listeners so far, {sum(each['answered'] == each['trials'] for each in listeners)} of them finished")
    if named := [name for name in plan.systems if name in store.settings["consent"]]:
        print(f"the consent text names {', '.join(named)}: every listener reads it")
    if not local:
        print("plain HTTP: who shares the network can read along; outside of one that you trust, put a proxy with TLS before it")
    print(f"link for listeners: {link}\nCtrl-C stops it; results: python listen.py results {store.path}", flush=True)


def evaluate(args):
    """The table of a test's answers; into a report and a CSV where they are asked for."""
    listening.check_installed("statsmodels")
    from se_keras.listening import results

    store = Store(args.database)
    try:
        summary = results.evaluate(store.settings, store.listeners(), store.answers(), args.keep_all, args.scripted)
    finally:
        store.close()
    print(results.terminal(summary))
    if args.report and summary["rows"]:
        print(f"written into {results.into_report(args.report, summary, store.settings)}")
    elif args.report:
        print(f"{args.report} stays as it is")
    if args.out:
        results.write_answers(args.out, summary)
        print(f"{len(summary['answers'])} answers: {args.out}")
    return 0


if __name__ == "__main__":
    cli.run(main)
