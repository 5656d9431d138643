"""Transforms: what a user declares about tables whose shape changes."""

from replicator.transforms.declared import DeclaredReference, DeclaredSide, KeyMap
from replicator.transforms.loading import load_transforms
from replicator.transforms.transform import Transform, transform

__all__ = ["DeclaredReference", "DeclaredSide", "KeyMap", "Transform", "load_transforms", "transform"]
