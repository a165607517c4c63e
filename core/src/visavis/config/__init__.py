"""A deployment file, read with positions and checked against its plugins, all problems in one report."""

from __future__ import annotations

from visavis.config.deployment import DEFAULT_USE, SERVING_USE, Deployment, Limits, Part
from visavis.config.loading import default_deployment, load_deployment, make_deployment, serving_deployment
from visavis.config.problems import DeploymentError, Mark, Problem
from visavis.config.schema import deployment_schema

__all__ = [
    "DEFAULT_USE",
    "SERVING_USE",
    "Deployment",
    "DeploymentError",
    "Limits",
    "Mark",
    "Part",
    "Problem",
    "default_deployment",
    "deployment_schema",
    "load_deployment",
    "make_deployment",
    "serving_deployment",
]
