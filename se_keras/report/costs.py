"""What systems cost, as tables say it. The numbers are `enhancers.cost.measure`'s."""

HEADERS = ("Parameters", "MACs / s", "Real-time factor", "Latency")
KEYS = {"params": "parameters", "macs": "macs_per_second", "rtf": "rtf", "latency": "latency_ms"}  # what one can sort by: the number


def cells(cost):
    """One system's, in the order of `HEADERS`; what is unknown is "".

    Args:
        cost: of `enhancers.cost.measure`.
    """
    latency = "whole utterance" if cost["whole_utterance"] else "" if cost["latency_ms"] is None else f"{cost['latency_ms']:.0f} ms"
    rtf = "" if cost["rtf"] is None else f"{cost['rtf']:#.2g}".rstrip(".")
    macs = "" if cost["macs_per_second"] is None else _short(cost["macs_per_second"])
    return [f"{cost['parameters']:,}", macs, rtf, latency]


def _short(count):
    """120,851,200 as "121 M": three digits."""
    if count < 1000:
        return str(count)
    size, letter = next((size, letter) for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if count >= 0.9995 * size)
    return f"{count / size:#.3g}".rstrip(".") + f" {letter}"


def about(costs):
    """How the numbers were made, in a few lines; and what is missing, and why.

    Args:
        costs: {system: of `enhancers.cost.measure`}.
    """
    measured = list(dict.fromkeys(cost["measured"] for cost in costs.values() if cost["measured"]))
    lines = ["MACs / s: multiply-accumulates of the network for a second of audio. Latency: window and look-ahead."]
    if measured:
        lines.append(f"Real-time factor: seconds of computing a second of audio ({'; '.join(measured)}).")
    return "\n".join(lines + [f"{system}: {cost['remark']}" for system, cost in costs.items() if cost["remark"]]) + "\n"
