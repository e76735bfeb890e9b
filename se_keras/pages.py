"""A page of one file: texts put in place of marks, data that no markup can break out of."""

import json


def filled(template, texts):
    """A page with a text in place of each mark.

    Args:
        template: HTML with marks `<!--NAME-->`, each once.
        texts: {NAME: text}, put in as it is.
    """
    for mark, text in texts.items():
        before, after = template.split(f"<!--{mark}-->")
        template = before + text + after
    return template


def script(content):
    """JSON for a script element, which "</script" or "<!--" within would end or open."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
