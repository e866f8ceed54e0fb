"""A loss of segfuse under `jax.jit` and `jax.grad`: a linear model of four features per voxel learns three classes.

`jax.pure_callback` calls the library from compiled code; `jax.custom_vjp` says that the gradient it makes in the same pass is
the derivative. Printed are the loss at the beginning and at the end.

    python jax_loss.py [--steps 60]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import segfuse

dice_ce = segfuse.value_and_grad("dice + ce", ignore_index=255)


def both(logits, labels):
    """Loss (float32) and gradient (of the type and shape of the logits)."""

    def host(logits, labels):
        value, gradient = dice_ce(np.asarray(logits), np.asarray(labels))
        return np.float32(value), gradient

    shapes = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct(logits.shape, logits.dtype)
    return jax.pure_callback(host, shapes, logits, labels)


@jax.custom_vjp
def loss(logits, labels):
    """Of logits [N, C, …] and labels [N, …]: a scalar, with a gradient in the logits."""
    return both(logits, labels)[0]


# The gradient is what the backward pass keeps; labels have none.
loss.defvjp(both, lambda gradient, factor: (factor * gradient, None))


def scene(key):
    """Features [2, 4, 24, 24] in which each class is a direction, and labels [2, 24, 24]."""
    labels = jax.random.randint(key, (2, 4, 4), 0, 3, dtype=jnp.int32).repeat(6, 1).repeat(6, 2)
    directions = jnp.array([[1.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.5], [0.5, 0.0, 0.0, 1.0]])
    noise = 0.3 * jax.random.normal(key, (2, 4, 24, 24))
    return jnp.moveaxis(directions[labels], -1, 1) + noise, labels


def train(steps: int) -> "list[float]":
    """The loss before each step of gradient descent."""
    features, labels = scene(jax.random.key(1))

    def objective(weights):
        return loss(jnp.einsum("ck,nkij->ncij", weights, features), labels)

    step = jax.jit(jax.value_and_grad(objective))
    weights, curve = jnp.zeros((3, 4)), []
    for _ in range(steps):
        value, slope = step(weights)
        curve.append(float(value))
        weights = weights - 2.0 * slope
    return curve


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=60)
    curve = train(arguments.parse_args().steps)
    print(f"loss {curve[0]:.4f} at the beginning, {curve[-1]:.4f} after {len(curve)} steps")
