"""Parts of a job on other processes: of a Ray cluster, or in turn on this one; nothing here knows what the job is."""

from normexport.workers.parts import run_in_order, run_parts
from normexport.workers.where import LOCAL, Where, Work

__all__ = ["LOCAL", "Where", "Work", "run_in_order", "run_parts"]
