"""What a bundle can be for."""

#: Triton's model repository, the same with an InferenceService of KServe, plain files with a script.
KINDS = ("triton", "kserve", "folder")
