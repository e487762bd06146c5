"""What dreamsim adds to vLLM's worker, in vLLM's process: loading a checkpoint in place, the whole of it.

In: the directory of a checkpoint. Out: a worker that computes with it.
Always: nothing keeps a copy of the old weights. vLLM 0.32 packs weights for the CPU once more than it unpacks them: an
output layer that shares its weights with the embedding is in no checkpoint, so `reload_weights` leaves its packed copy
as it was, and the model would go on saying what the old weights say of new hidden states.
"""

from __future__ import annotations

from typing import Any, Final

EXTENSION: Final = "dreamsim.engines.vllm_worker.CheckpointLoading"


class CheckpointLoading:
    """Mixed into vLLM's worker (its `worker_extension_cls`)."""

    model_runner: Any

    def load_checkpoint_in_place(self, path: str) -> None:
        """Compute with the weights in `path` from now on."""
        self.model_runner.reload_weights(weights_path=path)
        pack_again(self.model_runner.get_model())


def pack_again(model: Any) -> None:
    """Pack the weights of embeddings and output layers anew, where they are packed."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
