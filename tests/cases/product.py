"""Matrix and tensor products."""

from __future__ import annotations

from .case import Draw, case

CASES = [
    case("Gemm", (3, 4), Draw((4, 5)), Draw((5,))),
    case("Gemm", (3, 4), Draw((5, 4)), Draw((1, 5)), transB=1, alpha=0.5, beta=2.0),
    case("Gemm", (4, 3), Draw((4, 5)), transA=1, alpha=0.5),
    case("Gemm", (4, 3), Draw((5, 4)), transA=1, transB=1),
    case("Gemm", (3, 4), second=(4, 5)),
    case("Gemm", (4, 3), second=(5, 4), transA=1, transB=1, alpha=2.0),
    case("Gemm", (3, 1), Draw((3, 4)), Draw((4, 5)), position=2, beta=0.5),
    case("MatMul", (3, 4), Draw((4, 5))),
    case("MatMul", (2, 3, 4), Draw((4, 5))),
    case("MatMul", (2, 1, 3, 4), second=(5, 4, 2)),
    case("MatMul", (3, 1), second=(2, 1, 4)),
    case("MatMul", (4,), second=(4, 3)),
    case("MatMul", (2, 3, 4), second=(4,)),
    case("MatMul", (4,), second=(4,)),
    case("MatMul", (4,), second=(2, 4, 3)),
    case("Einsum", (3, 4), second=(4, 5), equation="ab,bc->ac"),
    case("Einsum", (2, 3, 4), second=(2, 5, 4), equation="bij,bkj->bik"),
    case("Einsum", (2, 3, 4), second=(4, 5), equation="...j, jk -> ...k", exact=False),
    case("Einsum", (2, 3, 4), second=(2, 4, 3), equation="...ij,...ji", exact=False),
    case("Einsum", (2, 1, 3), second=(1, 5, 3), equation="...i,...i->...", exact=False),
    case("Einsum", (3, 4), equation="ij->ji"),
    case("Einsum", (3, 4), equation="ij->i"),
    case("Einsum", (3, 4), equation="ij->"),
    case("Einsum", (3, 3), equation="ii->i"),
    case("Einsum", (2, 3, 3), equation="bii"),
    case("Einsum", (3, 4), second=(4, 5), equation="ij,jk->i"),
    case("Einsum", (3, 4), Draw((4, 5)), Draw((5, 2)), equation="ij,jk,kl->il"),
    case("Einsum", (3,), second=(4,), equation="i,j->ij", opset=12),
]  # fmt: skip
