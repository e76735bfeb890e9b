"""A hearing model with a gradient: what P.862 computes from two spectrograms, in a few tensor operations, without training.

`bark` holds the bands, `model` the front end (loudness of both signals, disturbance per band) and, apart from it, the pooling to a
score. It is a loss, a front end and a judge; it is no PESQ meter, and no score of it is ever called PESQ (`metrics.pesq` measures).
"""
