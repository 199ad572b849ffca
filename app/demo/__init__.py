"""The whole loop on the real flights of 2013, step by step, with a report at the end."""

from app.demo.report import Report, Step
from app.demo.story import run_demo

__all__ = ["Report", "Step", "run_demo"]
