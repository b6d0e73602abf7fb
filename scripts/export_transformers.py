#!/usr/bin/env python3
"""Transformers with random weights, exported by PyTorch in the forms that occur: `scripts/export_transformers.py OUT`.

vit.onnx       a vision transformer of the size of ViT-Tiny/16 at 224 pixels (192 features, 3 heads of 64, 12 blocks), one
               projection to queries, keys and values, a class token
bert.onnx      an encoder like BERT-Mini (256 features, 4 heads of 64, 4 blocks) over 128 tokens, separate projections, token
               ids and a mask as inputs
encoder.onnx   torch.nn.TransformerEncoder (128 features, 8 heads of 16, 2 blocks), heads merged into the batch
Small ones of the same structure with --tiny, for tests. Needs torch and onnx.
"""

import argparse
import math
import os
import warnings

import onnx
import torch
from torch import nn


class FusedAttention(nn.Module):
    """As in timm: one linear layer to queries, keys and values."""

    def __init__(self, features, heads):
        super().__init__()
        self.heads, self.width = heads, features // heads
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, self.width).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q * self.width**-0.5) @ k.transpose(-2, -1)
        return self.proj((a.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))


class Attention(nn.Module):
    """As in BERT: three linear layers, scores divided by a number, a mask added."""

    def __init__(self, features, heads):
        super().__init__()
        self.heads, self.width = heads, features // heads
        self.q, self.k, self.v = (nn.Linear(features, features) for _ in range(3))
        self.proj = nn.Linear(features, features)

    def forward(self, x, mask):
        n, t, c = x.shape
        q, k, v = (f(x).view(n, t, self.heads, self.width).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = q @ k.transpose(-1, -2) / math.sqrt(self.width) + mask
        return self.proj((a.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    def __init__(self, features, heads, mlp, first):
        super().__init__()
        self.first = first
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = FusedAttention(features, heads) if first else Attention(features, heads)
        self.mlp = nn.Sequential(nn.Linear(features, mlp), nn.GELU(), nn.Linear(mlp, features))

    def forward(self, x, *mask):
        if self.first:  # normalised before each part
            x = x + self.attention(self.norm1(x), *mask)
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x, *mask))
        return self.norm2(x + self.mlp(x))


class Vit(nn.Module):
    def __init__(self, features, heads, mlp, blocks, image, patch, classes):
        super().__init__()
        self.embed = nn.Conv2d(3, features, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, features) * 0.02)
        self.position = nn.Parameter(torch.randn(1, (image // patch) ** 2 + 1, features) * 0.02)
        self.blocks = nn.ModuleList(Block(features, heads, mlp, True) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(features), nn.Linear(features, classes)

    def forward(self, image):
        x = self.embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Bert(nn.Module):
    def __init__(self, features, heads, mlp, blocks, tokens, vocabulary, classes):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, features), nn.Embedding(tokens, features)
        self.register_buffer("ids", torch.arange(tokens)[None])
        self.norm = nn.LayerNorm(features)
        self.blocks = nn.ModuleList(Block(features, heads, mlp, False) for _ in range(blocks))
        self.pool, self.head = nn.Linear(features, features), nn.Linear(features, classes)

    def forward(self, input_ids, attention_mask):
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        x = self.norm(self.words(input_ids) + self.positions(self.ids))
        for block in self.blocks:
            x = block(x, mask)
        return self.head(torch.tanh(self.pool(x[:, 0])))


class Encoder(nn.Module):
    def __init__(self, features, heads, mlp, blocks, classes):
        super().__init__()
        layer = nn.TransformerEncoderLayer(features, heads, mlp, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(features, classes)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def export(model, inputs, names, path, opset=17):
    torch.manual_seed(1)
    model.eval()
    axes = {n: {0: "batch"} for n in [*names, "output"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, inputs, path, input_names=names, output_names=["output"], dynamic_axes=axes, opset_version=opset, dynamo=False
        )
    onnx.checker.check_model(path)
    print(f"{path}: {sum(p.numel() for p in model.parameters())} parameters, {os.path.getsize(path)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--opset", type=int, default=17)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    at = lambda name: os.path.join(args.out, name)
    if args.tiny:
        vit = Vit(24, 3, 48, 2, 32, 8, 10), torch.randn(2, 3, 32, 32)
        bert = Bert(24, 3, 48, 2, 12, 50, 4), 12
        encoder = Encoder(24, 3, 48, 1, 4), torch.randn(2, 6, 24)
    else:
        vit = Vit(192, 3, 768, 12, 224, 16, 1000), torch.randn(2, 3, 224, 224)
        bert = Bert(256, 4, 1024, 4, 128, 8000, 4), 128
        encoder = Encoder(128, 8, 512, 2, 10), torch.randn(2, 64, 128)
    export(vit[0], (vit[1],), ["image"], at("vit.onnx"), args.opset)
    ids = torch.ones(2, bert[1], dtype=torch.int64)
    export(bert[0], (ids, ids), ["input_ids", "attention_mask"], at("bert.onnx"), args.opset)
    export(encoder[0], (encoder[1],), ["features"], at("encoder.onnx"), args.opset)


if __name__ == "__main__":
    main()
