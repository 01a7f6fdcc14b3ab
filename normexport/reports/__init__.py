"""What happened, for people and for programs."""

from normexport.reports.conversion import Conversion, Folding, Inspection, OnnxFile, Operators, Port

__all__ = ["Conversion", "Folding", "Inspection", "OnnxFile", "Operators", "Port"]
