"""Where a gain lies: by SNR and by noise type."""

from se_keras.report.statistics import cluster_bootstrap
from se_keras.report.tables import paired, snr_labels


def by_condition(scores, metric, baseline="noisy"):
    """Mean gain of each system over a baseline, with 95% intervals by clean utterance.

    Args:
        scores: score rows (`tables.read_scores`) that hold the baseline and at least one other system.
        metric: name of a metric's column.
        baseline: the system that the others are measured against.

    Returns:
        {"snr" or "noise_type": {label: {system: `statistics.Interval`}}}, SNRs upwards; a condition that no utterance tells is left out.
    """
    table, _ = paired(scores, metric)
    systems = [system for system in table.columns if system != baseline]
    utterances = scores.drop_duplicates("id").set_index("id")
    utterances = utterances.assign(snr=snr_labels(utterances["snr_db"])).loc[table.index]
    snrs = sorted(set(utterances["snr"]) - {""}, key=lambda label: float(label.split()[0]))
    found = {}
    for column, labels in (("snr", snrs), ("noise_type", sorted(utterances["noise_type"].unique()))):
        found[column] = {}
        for label in labels:
            there = utterances[column] == label
            gain, clean = table[there].sub(table.loc[there, baseline], axis=0), utterances.loc[there, "clean"]
            found[column][label] = {system: cluster_bootstrap(gain[system], clean) for system in systems}
    return {column: labels for column, labels in found.items() if labels}
