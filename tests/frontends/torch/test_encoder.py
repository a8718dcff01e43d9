"""What encoders of Hugging Face are fed."""

from __future__ import annotations

from typing import Any


def inputs_of(model: Any, config: Any, **dims: int) -> dict[str, list[int]]:
    from modelc.errors import Where
    from modelc.frontends.torch.encoder import example_inputs

    made = example_inputs(model, config, dims, Where())
    return {name: list(tensor.shape) for name, tensor in made.items()}


def test_inputs_of_images_and_sounds() -> None:
    import transformers as hf

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vit = hf.ViTConfig(image_size=32, patch_size=16, num_channels=1, **size)
    assert inputs_of(hf.ViTModel(vit), vit, batch=2) == {"pixel_values": [2, 1, 32, 32]}
    resnet = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])
    assert inputs_of(hf.ResNetModel(resnet), resnet, batch=1, height=16, width=24) == {
        "pixel_values": [1, 3, 16, 24]
    }
    whisper = hf.WhisperConfig(
        vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, num_mel_bins=8,
        encoder_attention_heads=2, decoder_attention_heads=2, max_source_positions=30,
        encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    model = hf.WhisperModel(whisper).get_encoder()
    assert inputs_of(model, whisper, batch=1) == {"input_features": [1, 8, 60]}
