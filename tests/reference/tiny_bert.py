"""Makes the reference data in tests/data/bert_mlm_tiny: a seeded BERT for masked words, small, and what `transformers` on
PyTorch computes from it. Its weights have the names of bert-base-uncased's own file: `gamma` and `beta`, and more than a
masked-LM model needs. The decoder is its own; the activation is gelu_new.

  tiny_bert.py FOLDER        (made by transformers 4.30)
"""

import json
import pathlib
import sys

import torch
import transformers

from minilm import write_safetensors

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on mat . ##s a dog ##ing run Paris France of is".split()


def make(folder):
    torch.manual_seed(18)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        hidden_act="gelu_new", max_position_embeddings=24, layer_norm_eps=1e-5, tie_word_embeddings=False,
        initializer_range=0.2)
    model = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():  # no bias of 0, no norm of 1
            if name.endswith("bias"):
                values.normal_(0, 0.2)
            elif "LayerNorm" in name:
                values.normal_(1, 0.2)
    ids = torch.randint(5, len(VOCABULARY), (3, 11))
    ids[:, 0], ids[:, 4] = 2, 4
    mask = torch.ones_like(ids)
    mask[2, 7:] = 0
    ids[2, 7:] = 0
    with torch.no_grad():
        result = model(ids, attention_mask=mask, output_hidden_states=True)
    folder.mkdir(exist_ok=True)
    tensors = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): values
               for name, values in model.state_dict().items()}
    assert not torch.equal(tensors["cls.predictions.decoder.weight"], tensors["bert.embeddings.word_embeddings.weight"])
    for odd in ["bert.embeddings.position_ids", "bert.embeddings.token_type_ids"]:
        tensors.pop(odd, None)
    tensors["bert.embeddings.position_ids"] = torch.arange(24, dtype=torch.int32)[None]
    write_safetensors(folder / "model.safetensors", {name: values.numpy() for name, values in tensors.items()},
                      {"format": "pt"})
    write_safetensors(folder / "expected.safetensors", {
        "input_ids": ids.int().numpy(),
        "attention_mask": mask.float().numpy(),
        "hidden": result.hidden_states[-1].numpy(),
        "logits": result.prediction_logits.numpy(),
    }, {"made_by": f"PyTorch {torch.__version__}, transformers {transformers.__version__}"})
    settings = {key: value for key, value in config.to_dict().items()
                if key in ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                           "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps",
                           "tie_word_embeddings", "position_embedding_type", "model_type"]}
    settings["architectures"] = ["BertForPreTraining"]
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY).lower().replace("[pad]", "[PAD]").replace("[unk]", "[UNK]")
                                      .replace("[cls]", "[CLS]").replace("[sep]", "[SEP]").replace("[mask]", "[MASK]")
                                      + "\n")


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]))
