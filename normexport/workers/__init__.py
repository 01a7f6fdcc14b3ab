"""Parts of a job on other processes: of a Ray cluster, or in turn on this one; nothing here knows what the job is."""

from normexport.workers.parts import LOCAL, Where, Work, run_in_order, run_parts

__all__ = ["LOCAL", "Where", "Work", "run_in_order", "run_parts"]
