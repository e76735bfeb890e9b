"""The report: averages over the same utterances, figures that are drawn."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from se_keras import report
from se_keras.errors import UserError
from se_keras.metrics import pesq
from se_keras.report import curves, drawing, figures, tables

# --- tables ----------------------------------------------------------------------------------------------------------------------

GAINS = {"noisy": 0.0, "mse": 0.3, "quality": 0.45}


def make_scores(predicted=True):
    """Rows of three systems on 6 utterances of 3 speakers, 2 noise types, 3 SNRs; gains exactly as GAINS says."""
    rows = []
    for system, gain in GAINS.items():
        for u, noise, snr in itertools.product(range(6), ("babble", "white"), (-6, 0, 12)):
            pesq = 2 + 0.05 * snr + 0.1 * u + gain
            rows.append({"id": f"u{u}_{noise}_{snr}", "system": system, "speaker": f"s{u // 2}", "noise_type": noise,
                         "snr_db": float(snr), "clean": f"s{u // 2}/u{u}", "pesq_raw": pesq, "pesq_wb": 1.5 + gain, "stoi": 0.8,
                         "si_sdr": snr + 10 * gain, "target": pesq if predicted else None,
                         "predicted": pesq + 0.1 if predicted else None, "error": ""})
    return pd.DataFrame(rows).sample(frac=1, random_state=0).sort_values(
        "system", key=lambda column: column.map(list(GAINS).index), kind="stable")


COMPARISONS = [("quality", "mse"), ("quality", "noisy")]


def test_averages_are_those_put_in():
    summary = tables.summarise(make_scores(), COMPARISONS, about={"stoi": {"version": "1"}})
    assert summary["systems"] == list(GAINS) and summary["snrs"] == ["-6 dB", "0 dB", "12 dB"]
    assert (summary["utterances"], summary["clean_utterances"], summary["speakers"]) == (36, 6, 3)
    entry = summary["averages"]["pesq_raw"]["quality"]
    assert entry["mean"] == pytest.approx(2 + 0.05 * 2 + 0.1 * 2.5 + 0.45)
    assert entry["per_snr"]["12 dB"] == pytest.approx(2 + 0.6 + 0.25 + 0.45)
    # Two utterances of a speaker go together: three clusters that spread as six do give no narrower an interval.
    width = {by: entry[by][1] - entry[by][0] for by in ("by_clean_utterance", "by_speaker")}
    assert 0 < width["by_clean_utterance"] <= width["by_speaker"]

    differences = {(entry["system"], entry["baseline"], entry["metric"]): entry for entry in summary["comparisons"]}
    raw = differences["quality", "mse", "pesq_raw"]
    assert raw["difference"] == pytest.approx(0.15)
    assert raw["by_clean_utterance"] + raw["by_speaker"] == pytest.approx(4 * [0.15])
    assert raw["test_by_clean_utterance"]["p_sign_flip"] == 2 / 2 ** 6
    assert raw["test_by_speaker"]["p_sign_flip"] == 2 / 2 ** 3
    assert differences["quality", "noisy", "stoi"]["test_by_speaker"]["p_sign_flip"] == 1.0

    assert summary["prediction"]["mse"] == pytest.approx({"lcc": 1, "srcc": 1, "rmse": 0.1, "bias": 0.1, "count": 36})
    assert summary["contradictory"] == [] and summary["identical"] == []
    assert summary["metrics"] == {"stoi": {"version": "1"}}
    json.dumps(summary, allow_nan=False)


def test_missing_score_leaves_the_utterance_out_for_all():
    scores = make_scores()
    lost = (scores["id"] == "u5_white_12") & (scores["system"] == "mse")
    scores.loc[lost, "pesq_raw"] = None
    scores.loc[lost, "error"] = "pesq_raw: PESQ finds no speech"
    summary = tables.summarise(scores, COMPARISONS)
    assert summary["left_out"] == {"pesq_raw": {"u5_white_12": "mse: pesq_raw: PESQ finds no speech"}}
    for system, gain in GAINS.items():  # the mean of the other 35, for every system
        whole = 36 * (2 + 0.1 + 0.25) - (2 + 0.6 + 0.5)
        assert summary["averages"]["pesq_raw"][system]["mean"] == pytest.approx(whole / 35 + gain)
        assert summary["averages"]["pesq_raw"][system]["utterances"] == 35
        assert summary["averages"]["stoi"][system]["utterances"] == 36  # STOI has all its scores
    assert summary["comparisons"][0]["difference"] == pytest.approx(0.15)
    for text in (tables.markdown(summary), tables.terminal(summary)):
        assert "1 of 36 utterances lack a score" in text and "u5_white_12 (pesq_raw): mse: pesq_raw: PESQ finds no speech" in text


def test_infinite_score_is_not_averaged():
    scores = make_scores()
    scores.loc[(scores["id"] == "u0_babble_0") & (scores["system"] == "mse"), "si_sdr"] = np.inf
    summary = tables.summarise(scores, COMPARISONS)
    assert summary["left_out"] == {"si_sdr": {"u0_babble_0": "mse: no finite si_sdr"}}


def test_system_without_any_score():
    scores = make_scores(predicted=False)
    scores.loc[scores["system"] == "mse", ["pesq_raw", "error"]] = [None, "pesq_raw: PESQ finds no speech"]
    summary = tables.summarise(scores, COMPARISONS)
    assert summary["averages"]["pesq_raw"]["quality"]["mean"] is None and summary["comparisons"][0]["test_by_speaker"] is None
    assert len(summary["left_out"]["pesq_raw"]) == 36 and summary["prediction"] == {}
    assert "and 31 more, in summary.json" in tables.markdown(summary)
    json.dumps(summary, allow_nan=False)


def test_one_clean_utterance_has_no_interval():
    scores = make_scores()
    summary = tables.summarise(scores[scores["clean"] == "s0/u0"], COMPARISONS)
    assert summary["averages"]["stoi"]["mse"]["by_speaker"] == [None, None]
    assert "nan" not in tables.markdown(summary).lower() and "None" not in tables.markdown(summary)


def test_table_as_printed():
    summary = tables.summarise(make_scores(), COMPARISONS, note="A subset.")
    lines = tables.scores_table(summary).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["Metric", "System", "-6 dB", "0 dB", "12 dB", "Average", "95% by utterance", "95% by speaker"]
    assert cells[2][:6] == ["PESQ (raw P.862)", "noisy", "1.950", "2.250", "2.850", "2.350"]
    assert cells[4][:6] == ["", "quality", "2.400", "2.700", "3.300", "2.800"]
    assert [row[0] for row in cells[2:] if row[0]] == ["PESQ (raw P.862)", "STOI", "PESQ (wb, P.862.2)", "SI-SDR (dB)"]
    assert "| quality - mse   |       +0.150 |   +0.150 to +0.150 | 0.0312 (0.0312) |" in tables.markdown(summary)
    terminal = tables.terminal(summary)
    assert terminal.startswith("A subset.\n")
    assert "PESQ (raw P.862) is `pesq_raw`, PESQ (wb, P.862.2) is `pesq_wb`, STOI is `stoi`" in tables.markdown(summary)
    assert "\nA subset.\n36 utterances from 6 clean ones of 3 speakers." in tables.markdown(summary)
    assert "|" not in terminal and "quality - noisy" in terminal and max(map(len, terminal.splitlines())) < 132


def test_what_is_asked_for_beyond_the_defaults_is_shown():
    """CSIG is, ESTOI (measured by default, and no part of the letter's table) only among the averages of the report."""
    plain = tables.summarise(make_scores(), COMPARISONS)
    assert "CSIG" not in tables.terminal(plain) and "System" in tables.terminal(plain)
    summary = tables.summarise(make_scores().assign(csig=3.25, estoi=0.5), COMPARISONS)
    lines = tables.averages_table(summary).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "System", "PESQ (raw P.862)", "PESQ (wb, P.862.2)", "STOI", "SI-SDR (dB)", "CSIG", "ESTOI"]
    assert lines[2].split("|")[1:3] == [" noisy    ", "              2.350 "] and "3.250" in lines[2] and "0.500" in lines[2]
    assert "CSIG" in tables.scores_table(summary) and "ESTOI" not in tables.scores_table(summary)
    assert "CSIG" in tables.comparisons_table(summary) and "ESTOI" not in tables.comparisons_table(summary)
    terminal = tables.terminal(summary)
    assert terminal.count("CSIG") == 1 and "3.250" in terminal  # among the averages; by SNR there is no room


def with_a_contradiction():
    """100 rows of one system whose predictions agree with LCC 0.927, and a 101st: raw PESQ 3.54 where wide-band PESQ is 1.02, at -6 dB."""
    rng = np.random.default_rng(0)
    true = np.sort(rng.uniform(1.2, 2.9, 100))
    noise = rng.standard_normal(100)
    noise -= np.polyval(np.polyfit(true, noise, 1), true)  # uncorrelated with the truth, so that the LCC is as wanted
    noise *= np.sqrt(1 / 0.927 ** 2 - 1) * true.std() / noise.std()
    wb = pesq.raw_to_wb(np.interp(true, pesq.USUAL_NB, pesq.USUAL_WB))
    scores = pd.DataFrame({"id": [f"u{number}" for number in range(100)], "system": "mse", "speaker": "s", "noise_type": "babble",
                           "snr_db": 0.0, "clean": "s/u", "pesq_raw": true, "pesq_wb": wb, "target": true, "predicted": true + noise,
                           "error": ""})
    odd = {**scores.iloc[0].to_dict(), "id": "odd", "snr_db": -6.0, "pesq_raw": 3.54, "pesq_wb": 1.02, "target": 3.54, "predicted": 1.03}
    return pd.concat([scores, pd.DataFrame([odd])], ignore_index=True)


def test_a_contradictory_row_is_flagged_counted_and_shown_apart(tmp_path, monkeypatch):
    """One row in 101 takes LCC from 0.927 to 0.827: it stays in the averages, and the agreement is told without it too."""
    scores = with_a_contradiction()
    summary = tables.summarise(scores)
    assert [row["id"] for row in summary["contradictory"]] == ["odd"]
    entry = summary["prediction"]["mse"]
    assert entry["lcc"] == pytest.approx(0.827, abs=0.001) and entry["count"] == 101 and entry["contradictory"] == 1
    assert entry["without_contradictory"]["lcc"] == pytest.approx(0.927, abs=1e-6) and entry["without_contradictory"]["count"] == 100
    assert summary["averages"]["pesq_raw"]["mse"]["utterances"] == 101
    for text in (tables.markdown(summary), tables.terminal(summary)):
        assert "1 of 101 scored rows contradict themselves" in text and "- odd of mse: PESQ raw 3.54, PESQ wb 1.02" in text
        assert "mse, without 1 contradictory" in text and "0.927" in text

    seen = []
    monkeypatch.setattr(figures, "saved", lambda figure, path: seen.append(figure))
    odd = tables.contradictory(scores).to_numpy()
    figures.predicted_against_true({"mse": (scores["target"], scores["predicted"])}, tmp_path / "a.png", contradictory={"mse": odd})
    plain, cross = seen[0].axes[0].collections
    assert len(plain.get_offsets()) == 100 and cross.get_offsets().tolist() == [[3.54, 1.03]]
    assert "LCC 0.927" in cross.get_label() and f"LCC {entry['lcc']:.3f}" in plain.get_label()


def test_a_contradiction_needs_both_scores():
    scores = with_a_contradiction()
    assert not tables.contradictory(scores.drop(columns="pesq_wb")).any()
    assert not tables.contradictory(scores.assign(pesq_wb=np.nan)).any()


def test_identical_systems_are_named():
    scores = make_scores()
    copy = scores[scores["system"] == "mse"].assign(system="copy")
    summary = tables.summarise(pd.concat([scores, copy]), same_weights=[("noisy", "quality")])
    assert summary["identical"] == [{"systems": ["noisy", "quality"], "why": "the same weights"},
                                    {"systems": ["mse", "copy"], "why": "equal scores in every row"}]
    for text in (tables.markdown(summary), tables.terminal(summary)):
        assert "noisy and quality are identical: the same weights\nmse and copy are identical: equal scores in every row" in text
    other = copy.assign(stoi=[0.81] + [0.8] * 35)  # one score of 36
    assert tables.identical(pd.concat([scores, other])) == []
    assert tables.identical(pd.concat([scores, copy]).assign(**dict.fromkeys(tables.metric_names(scores), np.nan))) == []


def test_snr_labels():
    assert tables.snr_labels([-6, 0.0, -0.0, 2.5, None]) == ["-6 dB", "0 dB", "0 dB", "2.5 dB", ""]
    assert set(tables.snr_labels(np.linspace(0, 20, 41))) == {"0 dB", "5 dB", "10 dB", "15 dB", "20 dB"}  # measured SNRs: gathered


def test_pairs_without_an_snr_are_averaged():
    summary = tables.summarise(make_scores().assign(snr_db=np.nan))
    assert summary["snrs"] == [] and summary["averages"]["stoi"]["mse"]["per_snr"] == {}
    assert "| Metric             | System   |   Average |" in tables.scores_table(summary)


def test_scores_file_round_trip(tmp_path):
    scores = make_scores().assign(speaker="NA")  # a name, not a missing value
    scores.to_csv(tmp_path / "scores.csv", index=False)
    read = tables.read_scores(tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(read, scores.reset_index(drop=True), check_dtype=False)
    assert tables.metric_names(read) == ["pesq_raw", "pesq_wb", "stoi", "si_sdr"]


def test_scores_file_refused(tmp_path):
    path = tmp_path / "scores.csv"
    with pytest.raises(UserError, match="no such file"):
        tables.read_scores(path)
    make_scores().drop(columns=["clean", "error"]).to_csv(path, index=False)
    with pytest.raises(UserError, match="lacks the columns clean, error"):
        tables.read_scores(path)
    doubled = pd.concat([make_scores(), make_scores().iloc[:1]])
    doubled.to_csv(path, index=False)
    with pytest.raises(UserError, match="of noisy stands twice"):
        tables.read_scores(path)


# --- figures and the whole report ------------------------------------------------------------------------------------------------


def drawn(path):
    """Height and width of a PNG that is not one colour."""
    image = imread(path)
    assert image.std() > 0.01
    return image.shape[:2]


def test_palette():
    colours = drawing.palette(["noisy", "wiener", "mse", "wiener"])
    assert colours["noisy"] == "#7F7F7F" and colours["clean"] == "#000000"
    assert len(set(colours.values())) == 4
    assert drawing.palette(["mse", "noisy"])["noisy"] == colours["noisy"]
    many = drawing.palette([f"s{number}" for number in range(7)])
    assert len(set(many.values())) == 9


HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "loss": [0.3, 0.2, 0.1], "lr": 0.001,
                        "valid_loss": [0.3, None, 0.2], "valid_pesq_raw": [2.0, 2.1, 2.2]})
QUALITY = pd.DataFrame({"update": [0, 500, 1000], "epoch": [0.0, 1.0, 2.0], "loss": [None, 0.3, 0.2], "valid_loss": [0.05, 0.02, 0.01]} | {
    f"valid_{name}{kind}": values for name, values in (("lcc", [None, 0.7, 0.8]), ("srcc", [0.5, 0.7, 0.8]), ("rmse", [1.0, 0.6, 0.4]))
    for kind in ("", "_noisy", "_enhanced")} | {"valid_lcc_change": [-0.1, 0.2, 0.3]})
NEGATIVE = pd.DataFrame({"epoch": [1, 2], "loss": [-3.0, -9.0], "val_loss": [-2.0, -8.0]})  # SI-SNR: no logarithmic axis
PAIRS = {"noisy": ([1.0, 2.0, None], [1.1, 1.9, 2.0]), "mse": ([2.0, 3.0], [2.0, 3.1])}
RUNS = {"Quality-Net loss": ([0, 10, 30, 40], [2.3, 2.4, 2.45, 9]), "MSE": ([0, 30], [2.3, 2.31])}
WAVES = {"clean": np.sin(np.arange(16_000)), "noisy": np.zeros(16_000)}
FIGURES = {
    "labels": lambda path: figures.label_histogram({"noisy": [2.0, 2.1, np.nan, 3.0], "clean": [4.5, 4.5]}, path),
    "predicted": lambda path: figures.predicted_against_true(PAIRS, path),
    "predicted-odd": lambda path: figures.predicted_against_true(PAIRS, path, contradictory={"noisy": [False, True, False]}),
    "pareto": lambda path: figures.pareto(pd.DataFrame({"name": ["start", "A"], "pesq_raw": [2.0, 2.3], "si_sdr": [9.0, 8.0],
                                                        "dnsmos_ovrl": [2.5, 2.6], "csig": [3.0, 2.9]}), path),
    "judges": lambda path: figures.judges({"ears": ([1, 2, 3], [1.1, 2, 3]), "deaf": ([1, 2, None], [2, 2, 2])}, ["noisy", "mse", "mse"],
                                          path),
    "learning": lambda path: curves.learning_curve(HISTORY, path),
    "learning-negative": lambda path: curves.learning_curve(NEGATIVE, path),
    "quality-learning": lambda path: curves.quality_net_learning_curve(QUALITY, path),
    "quality-learning-few": lambda path: curves.quality_net_learning_curve(QUALITY[["epoch", "loss", "valid_loss", "valid_lcc"]], path),
    "fig2-letter": lambda path: curves.true_by_iteration(RUNS, path, letter=drawing.LETTER_TEST_PESQ),
    "fig5-letter": lambda path: curves.predicted_and_true_by_iteration([0, 30], [2.3, 2.8], [2.3, 2.4], path,
                                                                        letter={"true": ([0, 30], [2.2, 2.4])}),
    "fig2": lambda path: curves.true_by_iteration(RUNS, path),
    "fig5": lambda path: curves.predicted_and_true_by_iteration([0, 350, 700], [2.3, 2.8, 2.95], [2.3, 2.4, 2.2], path),
    "fig5-runs": lambda path: curves.predicted_and_true_over_runs(
        {"frozen": ([0, 350, 700], [2.3, 2.8, 2.95], [2.3, 2.4, 2.2]), "replay": ([0, 350, 700], [2.3, None, 2.8], [2.3, 2.6, 2.7])}, path),
    "fig5-gaps": lambda path: curves.predicted_and_true_by_iteration([0, 5, 10], [2.3, 2.5, 2.6], [2.3, None, 2.4], path, best=10),
    "spectrograms": lambda path: figures.spectrograms(WAVES, path, title="one"),
    "letter": lambda path: figures.beside_the_letter({"noisy": {"PESQ (raw P.862)": 2.1, "STOI": 0.8}}, path),
    "gain": lambda path: figures.gain_bars(make_scores(), path),
    "gain-no-snr": lambda path: figures.gain_bars(make_scores().assign(snr_db=np.nan), path, metric="stoi"),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error")
def test_figure_is_drawn(name, tmp_path):
    path = tmp_path / "new folder" / f"{name}.png"
    assert FIGURES[name](path) == path
    height, width = drawn(path)
    assert 300 < height < 2000 and 400 < width < 2500
    assert list(path.parent.iterdir()) == [path]  # nothing temporary stays


def test_figures_over_runs_show_all_of_runs_of_unequal_length(tmp_path, monkeypatch):
    drawn_figures = []
    monkeypatch.setattr(curves, "saved", lambda figure, path: drawn_figures.append(figure))
    curves.predicted_and_true_over_runs({"short": ([0, 280], [1, 2], [1, 1]), "long": ([0, 700], [1, 1], [1, 2])}, tmp_path / "a.png",
                                         label="0.5 PESQ raw + 0.25 COVL + 0.25 STOI, 0 to 1")
    assert all(axes.get_xlim()[0] == 0 and axes.get_xlim()[1] >= 700 for axes in drawn_figures[0].axes)
    assert "\n" in drawn_figures[0].get_supylabel()
    curves.true_by_iteration({"run": ([0, 140, 700], [2.2, 2.3, 2.4])}, tmp_path / "b.png")
    axes, = drawn_figures[1].axes
    assert axes.lines[0].get_xdata().tolist() == [0, 140, 700] and axes.get_xlim()[1] >= 700
    curves.true_by_iteration({"run": ([0, 10, 700], [2.2, 2.3, 2.4])}, tmp_path / "c.png", last=30)  # the letter's
    assert drawn_figures[2].axes[0].lines[0].get_xdata().tolist() == [0, 10]


def test_quality_net_learning_curve_has_errors_above_and_correlations_below(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(curves, "saved", lambda figure, path: seen.append(figure))
    curves.quality_net_learning_curve(QUALITY, tmp_path / "a.png")
    errors, correlations = seen[0].axes
    assert [line.get_label() for line in errors.lines] == [
        "training objective", "validation loss: squared error of the score", "RMSE, all validation speech", "RMSE, noisy", "RMSE, enhanced"]
    speech = ("all validation speech", "noisy", "enhanced")
    assert [line.get_label() for line in correlations.lines] == [
        *(f"{name}, {said}" for name in ("LCC", "SRCC") for said in speech), "LCC of changes of a mask"]
    assert correlations.lines[0].get_xdata().tolist() == [500, 1000] and correlations.get_xlabel() == "Updates"


def test_the_letters_table_stands_beside_ours(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(figures, "saved", lambda figure, path: seen.append(figure))
    averages = {"blstm-mse": {"PESQ (raw P.862)": 2.4, "STOI": 0.7}, "mine": {"PESQ (raw P.862)": 9, "STOI": 9}}
    figures.beside_the_letter(averages, tmp_path / "a.png")
    pesq, stoi = seen[0].axes
    assert [bar.get_height() for bar in pesq.patches] == [2.467, 2.4] and [bar.get_height() for bar in stoi.patches] == [0.852, 0.7]
    assert [label.get_text() for label in pesq.get_xticklabels()] == ["BLSTM\n(MSE)"]


def test_the_letters_values_stand_beside_ours(tmp_path, monkeypatch):
    """A value is a level, a pair of arrays a line; without any the figure is as it was."""
    seen = []
    monkeypatch.setattr(curves, "saved", lambda figure, path: seen.append(figure))
    curves.true_by_iteration(RUNS, tmp_path / "a.png")
    curves.true_by_iteration(RUNS, tmp_path / "b.png", letter={**drawing.LETTER_TEST_PESQ, "true": ([0, 30], [2.2, 2.4])})
    plain, beside = (figure.axes[0].lines for figure in seen)
    assert len(plain) == 2 and [line.get_label() for line in beside[2:]] == [
        "the letter's BLSTM (MSE), test: 2.467", "the letter's BLSTM (Quality-Net), test: 2.569", "the letter's true"]
    assert beside[2].get_ydata() == [2.467, 2.467] and beside[4].get_ydata().tolist() == [2.2, 2.4]


def test_figures_share_one_scale(tmp_path, monkeypatch):
    """The silent wave of two is shown at the floor of the loud one's scale, not stretched to its own."""
    seen = []
    monkeypatch.setattr(figures, "saved", lambda figure, path: seen.append(figure))
    figures.spectrograms({"loud": np.sin(np.arange(8000)), "quiet": 0.01 * np.sin(np.arange(8000))}, tmp_path / "x.png")
    loud, quiet = (axes.images[0].get_array() for axes in seen[0].axes[:2])
    assert loud.max() == pytest.approx(0.0) and quiet.max() == pytest.approx(-40.0)
    assert {axes.images[0].get_clim() for axes in seen[0].axes[:2]} == {(-70, 0)}


def test_report_folder(tmp_path):
    scores = make_scores()
    waves = {name: np.random.default_rng(0).normal(size=8000) for name in ("clean", "noisy", "quality")}
    summary = report.write(scores, tmp_path / "report", COMPARISONS, pictured={"u0": waves, "u1, hard": waves})
    folder = tmp_path / "report"
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (folder / "table.md").read_text() == tables.markdown(summary)
    assert sorted(path.name for path in (folder / "figures").iterdir()) == sorted({*report.FIGURES} - {"judges.png"})

    report.write(make_scores(predicted=False), folder)  # nothing of the earlier report stays
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["gain.png", "labels.png"]


def test_typical_utterance():
    """Of the middle SNR, the median gain: here -1, 0, 1 (u0, u1, u2) at 6 dB, so u1; other SNRs do not count."""
    rows = [{"id": f"u{u}_{snr}", "system": system, "speaker": "s", "noise_type": "white", "snr_db": float(snr), "clean": f"u{u}",
             "pesq_raw": 2.0 + (u - 1) * (system == "mse"), "error": ""}
            for system, u, snr in itertools.product(("noisy", "mse"), range(3), (0, 6, 12))]
    assert report.typical_utterance(pd.DataFrame(rows), "mse") == "u1_6"
    assert report.typical_utterance(pd.DataFrame(rows), "mse", hard=True) == "u1_0"  # the lowest SNR
    assert report.typical_utterance(pd.DataFrame(rows).assign(snr_db=np.nan), "mse").startswith("u1")
    assert report.typical_utterance(pd.DataFrame(rows).assign(snr_db=np.nan), "mse", hard=True).startswith("u1")
    assert report.typical_utterance(pd.DataFrame(rows).assign(pesq_raw=np.nan), "mse") == "u0_0"


def test_report_never_loads_tensorflow():
    code = ("import sys, se_keras.report.figures, se_keras.report.curves, se_keras.report.page, se_keras.scoring.evaluation; "
            "sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
