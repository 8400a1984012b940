"""Leakage audit: what a random split would flatter, which cells leak, and which labels look wrong."""

from cytodistill.audit.run import Audit, audit

__all__ = ["Audit", "audit"]
