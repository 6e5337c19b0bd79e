"""The built-in recipes: training scripts under the contract of :mod:`training.contract`."""
