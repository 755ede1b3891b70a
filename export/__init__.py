"""Export: a trained classifier in, one ONNX file with its own gradient out."""

from .build import ExportReport, differentiate, export

__all__ = ["ExportReport", "differentiate", "export"]
