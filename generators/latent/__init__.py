"""Latent models of symmetric crystals: a variational autoencoder, a normalizing flow, an adversarial network."""

from generators.latent.families import Flow, Gan, Vae

__all__ = ["Flow", "Gan", "Vae"]
