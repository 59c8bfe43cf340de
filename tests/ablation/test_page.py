from ich3d.ablation.page import answers
from ich3d.evaluation.table import compare
from tests.helpers.scores import scores, thirty_patients


def test_an_answer_is_given_for_the_metric_and_each_label_that_enough_patients_have() -> None:
    truth = thirty_patients()
    prob = {"weak": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    told = answers(compare(prob, {"strong": "weak"}, truth, 50, 0), "strong", truth)
    assert told[0].startswith("Weighted log loss: strong is better than weak, -")
    assert [sentence.partition(":")[0] for sentence in told[1:]] == [
        "Log loss of any",
        "Log loss of epidural",
    ]
