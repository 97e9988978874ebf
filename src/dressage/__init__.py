"""dressage: a post-training pipeline that learns from judges."""

__version__ = "0.1.0"
