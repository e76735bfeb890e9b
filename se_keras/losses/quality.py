"""What Quality-Net learns by, and the learned loss: how far a predicted quality score is from perfect."""

from keras import ops


def quality(score):
    """(1 - Q)^2, equation 1 of the letter, one value an utterance.

    Args:
        score: Quality-Net's output, float32 `(batch, 1)` or `(batch,)`; 1 is the perfect one.

    Returns:
        float32 `(batch,)`.
    """
    return ops.square(1.0 - ops.reshape(score, (-1,)))


def quality_linear(score):
    """1 - Q: as `quality`, pulling as hard at a good score as at a bad one."""
    return 1.0 - ops.reshape(score, (-1,))


def score_loss(score, target, siblings=1, contrast=0.0):
    """What Quality-Net is trained by: its squared error, and that of the differences between pairs of one mixture.

    With e the error of a pair, mean e^2 + contrast * (variance of e among the siblings of a mixture, averaged over mixtures). The first
    term is the letter's. Most of it is how hard an utterance is to judge, the same for all that is done to that utterance; the
    second leaves that out, and asks what a fine-tuned enhancer will ask: is this mask better than that one, on this mixture?

    Args:
        score: Quality-Net's output, float32 `(batch, 1)` or `(batch,)`.
        target: true scores, likewise.
        siblings: how many pairs of one mixture stand side by side in the batch.
        contrast: weight of the second term; needs two siblings or more.

    Returns:
        float32 scalar.
    """
    error = ops.reshape(score, (-1,)) - ops.reshape(target, (-1,))
    loss = ops.mean(ops.square(error))
    if siblings > 1 and contrast:
        by_mixture = ops.reshape(error, (-1, siblings))
        variance = ops.sum(ops.square(by_mixture - ops.mean(by_mixture, axis=1, keepdims=True)), axis=1) / (siblings - 1)
        loss = loss + contrast * ops.mean(variance)
    return loss


def frame_weighted_loss(score, frame_scores, target, frame_mask):
    """What the non-intrusive Quality-Net is trained by (Fu et al. 2018), one value an utterance.

    (Q^ - Q)^2 + 10^(Q - 4.5) mean_t (q_t - Q)^2: the better the speech, the more all frames must agree with its score; frames of
    poor speech may differ, since its noise comes and goes.

    Args:
        score: Q^, float32 `(batch, 1)` or `(batch,)`, predicted raw PESQ.
        frame_scores: q_t, float32 `(batch, frames)`, likewise of each frame.
        target: Q, true raw PESQ, -0.5 to 4.5, `(batch, 1)` or `(batch,)`.
        frame_mask: bool `(batch, frames)`.

    Returns:
        float32 `(batch,)`.
    """
    score, target = ops.reshape(score, (-1,)), ops.reshape(target, (-1,))
    valid = ops.cast(frame_mask, frame_scores.dtype)
    squared = ops.square(frame_scores - ops.expand_dims(target, -1))
    of_frames = ops.sum(squared * valid, axis=1) / ops.maximum(ops.sum(valid, axis=1), 1.0)
    return ops.square(score - target) + ops.power(10.0, target - 4.5) * of_frames
