"""Speed: its passport says where and of what it was measured."""

import torch
from small import make_transfusion

from unify.data.shapes import Shapes
from unify.metrics.metric import Subject
from unify.metrics.speed import Speed


def test_a_passport_states_threads_size_and_repeats_and_no_accelerator_of_a_model_on_the_cpu(
    monkeypatch,
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tasks = frozenset({"text_to_image"})
    subject = Subject(make_transfusion(), Shapes(), tasks, {}, {"steps": 1}, {}, seed=0)
    (score,), _ = Speed(rows=1, repeats=2).measure(subject)
    assert score.passport["threads"] == torch.get_num_threads()
    assert score.passport["size"] == [32, 32]
    assert score.passport["repeats"] == 2
