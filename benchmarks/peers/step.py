"""A REALM pre-training step of transformers 4.57.6: RealmScorer, RealmKnowledgeAugEncoder, AdamW, float32.

Option head: "all", as shipped, computes 30,522 logits at every position of every candidate; "masks" takes the same head
at the masked positions alone and is otherwise the same.
"""

import common
import lines
import torch
import transformers

MASKED_OUT = -100


class Side:
    """One step on the batch of peer.npz."""

    def __init__(self):
        folder, facts, options = common.arguments()
        self._batch, self._head = common.tensors(folder / "peer.npz"), options["head"]
        settings = common.config(facts, num_candidates=self._batch["block_ids"].shape[1])
        self._scorer = transformers.RealmScorer(settings).train()
        self._reader = transformers.RealmKnowledgeAugEncoder(settings).train()
        parameters = [*self._scorer.parameters(), *self._reader.parameters()]
        self._parameters = [p for p in parameters if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1e-5, weight_decay=0.01)
        self.facts = common.versions()

    def measure(self):
        return lines.timed(self._step)

    def _step(self):
        batch = self._batch
        scores = self._scorer(
            input_ids=batch["query_ids"],
            attention_mask=(batch["query_ids"] != 0).long(),
            candidate_input_ids=batch["block_ids"],
            candidate_attention_mask=(batch["block_ids"] != 0).long(),
            candidate_token_type_ids=batch["block_segments"],
        ).relevance_score
        loss = (_at_all if self._head == "all" else _at_masks)(self._reader, batch, scores)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss)


def _at_all(reader, batch, scores):
    labels = torch.full((len(scores), batch["joint_ids"].shape[-1]), MASKED_OUT)
    weights = torch.zeros_like(labels)
    rows, columns = batch["mask_weights"].nonzero(as_tuple=True)
    positions = batch["mask_positions"][rows, columns].long()
    labels[rows, positions] = batch["mask_targets"][rows, columns].long()
    weights[rows, positions] = 1
    return reader(
        input_ids=batch["joint_ids"],
        attention_mask=(batch["joint_ids"] != 0).long(),
        token_type_ids=batch["joint_segments"],
        relevance_score=scores,
        labels=labels,
        mlm_mask=weights,
    ).loss


def _at_masks(reader, batch, scores):
    """The forward pass of RealmKnowledgeAugEncoder with its head at the masks: the same loss."""
    size, candidates, length = batch["joint_ids"].shape
    ids = batch["joint_ids"].view(-1, length)
    states = reader.realm(
        ids, attention_mask=(ids != 0).long(), token_type_ids=batch["joint_segments"].view(-1, length)
    )[0]
    positions = batch["mask_positions"].long().repeat_interleave(candidates, 0)
    states = states.gather(1, positions[..., None].expand(-1, -1, states.shape[-1]))
    logits = reader.cls(states)
    targets = batch["mask_targets"].long().repeat_interleave(candidates, 0)
    gold = -torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    joint = scores.log_softmax(-1)[..., None] + gold.view(size, candidates, -1)
    weights = batch["mask_weights"]
    return -(joint.logsumexp(1) * weights).sum() / weights.sum()


if __name__ == "__main__":
    lines.serve(Side)
