"""What happened, for people and for programs."""

from normexport.report.conversion import Conversion, Folding, Inspection, Operators

__all__ = ["Conversion", "Folding", "Inspection", "Operators"]
