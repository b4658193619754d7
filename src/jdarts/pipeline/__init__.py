"""The paper's protocol from searches to a tested network; `python -m jdarts.pipeline` is its command."""

from jdarts.pipeline.arms import Arm, Candidate
from jdarts.pipeline.budgets import BudgetResult
from jdarts.pipeline.config import PipelineConfig
from jdarts.pipeline.protocol import pipeline
from jdarts.pipeline.result import PipelineResult
from jdarts.runs import Interrupted

__all__ = ["Arm", "BudgetResult", "Candidate", "Interrupted", "PipelineConfig", "PipelineResult", "pipeline"]
