"""Whether a mean differs from zero when both listeners and utterances are drawn from many."""

import warnings

import numpy as np
import pandas as pd
import scipy.stats


def p_value(values, listeners, items):
    """Two-sided p of "the mean is zero" by a linear mixed model with crossed random effects of listener and utterance.

    The model is values = mean + listener + item + rest, fitted by REML (statsmodels' `MixedLM` with variance components); the mean over its
    standard error is held against Student's t with as many degrees of freedom as the rarer of listeners and utterances, minus one. Of
    answers that are one of two it is a linear probability model, not a logistic one.

    Args:
        values: float `(n,)`; of answers that are one of two, -0.5 and 0.5.
        listeners, items: `(n,)` of labels.

    Returns:
        p in [0, 1]; NaN where it cannot be estimated: fewer than two listeners or utterances, values that are all equal, or that listener
        and utterance tell in full, or a fit that does not converge.

    Reference: Baayen, Davidson and Bates, "Mixed-effects modeling with crossed random effects for subjects and items", J. Mem. Lang. 59
    (2008).
    """
    from statsmodels.regression.mixed_linear_model import MixedLM  # here: it takes two seconds

    values = np.asarray(values, dtype=float)
    levels = min(len(set(listeners)), len(set(items)))
    if levels < 2 or np.ptp(values) == 0:
        return np.nan
    table = pd.DataFrame({"value": values, "listener": pd.factorize(np.asarray(listeners))[0], "item": pd.factorize(np.asarray(items))[0],
                          "all": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of zero is at the edge of what it may be, and an answer
        try:
            model = MixedLM.from_formula("value ~ 1", table, groups="all", re_formula="0",
                                         vc_formula={"listener": "0 + C(listener)", "item": "0 + C(item)"})
            fitted = model.fit(reml=True, method="powell")  # the one that converged in all of 60 simulated tests
            mean, error = float(fitted.fe_params.iloc[0]), float(fitted.bse_fe.iloc[0])
        except (np.linalg.LinAlgError, ValueError):
            return np.nan
    if not fitted.converged or not np.isfinite([mean, error]).all() or error <= 0:
        return np.nan
    return float(2 * scipy.stats.t.sf(abs(mean / error), levels - 1))
