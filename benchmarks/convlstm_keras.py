"""Contender of `benchmarks.convlstm`: Keras 3's ConvLSTM2D on TensorFlow, in its own process and environment.

    python -m benchmarks.convlstm_keras {wall,cpu} THREADS CASE_AS_JSON

Compiled as a graph; XLA was about thirty times slower here. It has the same weights as the others. With a stride,
TensorFlow's "same" padding is offset by half a pixel.
"""

import os
import sys

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}

import keras
import numpy as np
import tensorflow as tf

from benchmarks.convlstm_cases import CLOCKS, Case, serve


def make(case: Case) -> keras.Model:
    """The layers, with the gates in Keras' order: i, f, g, o."""
    model = keras.Sequential([keras.Input((case.steps, case.size, case.size, case.widths[0]))])
    for weight, bias in case.weights():
        hidden = len(bias) // 4
        layer = keras.layers.ConvLSTM2D(
            hidden, 3, strides=case.stride, padding="same", return_sequences=True, recurrent_activation="sigmoid"
        )
        model.add(layer)
        i, f, o, g = np.split(weight, 4)
        rows = np.concatenate([i, f, g, o]).transpose(2, 3, 1, 0)
        layer.set_weights([rows[:, :, :-hidden], rows[:, :, -hidden:], bias])
    return model


def main() -> None:
    """Runs the contender."""
    clock, case = CLOCKS[sys.argv[1]], Case.from_json(sys.argv[3])
    tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))
    model = make(case)
    x = tf.constant(case.sequence().transpose(1, 0, 3, 4, 2))

    @tf.function
    def gradients(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(tf.square(model(x, training=True)))
        grad, of_weights = tape.gradient(loss, [x, model.trainable_weights])
        return loss, grad, of_weights

    def step() -> float:
        start = clock()
        loss, grad, _ = gradients(x)
        check["loss"], check["grad"] = float(loss), grad
        return clock() - start

    check: dict[str, float] = {}
    step()
    check["grad"] = float(tf.norm(check["grad"]))
    serve(dict(check), step)


if __name__ == "__main__":
    main()
