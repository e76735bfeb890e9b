"""The learned loss: how far a predicted quality score is from perfect."""

from keras import ops


def quality_loss(score, target=1.0):
    """(target - Q)^2, equation 1 of the letter, one value an utterance.

    Args:
        score: Quality-Net's output, float32 `(batch, 1)` or `(batch,)`.
        target: the score to reach; 1 is the perfect one.

    Returns:
        float32 `(batch,)`.
    """
    return ops.square(target - ops.reshape(score, (-1,)))
