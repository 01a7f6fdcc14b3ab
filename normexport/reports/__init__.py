"""What happened, for people and for programs."""

from normexport.reports.conversion import Conversion, Folding, Inspection, Operators

__all__ = ["Conversion", "Folding", "Inspection", "Operators"]
