"""What does River do out of the box? Its StandardScaler and LogisticRegression with their defaults: the yardstick of the benchmark."""

from collections.abc import Mapping

from river import linear_model, preprocessing

from pipeline.core.learn.prediction import Prediction, Scorer, logit, sigmoid
from pipeline.core.learn.schema import FeatureValue, Schema


class Plain(Scorer):
    """Plain River, scored as it stands: no imbalance, no missing columns, no reasons. A missing number is a zero, as is usual."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._scaler = preprocessing.StandardScaler()
        self._model = linear_model.LogisticRegression()

    def learn(self, features: Mapping[str, FeatureValue], label: bool, weight: float = 1.0) -> None:
        row = self._row(features)
        self._scaler.learn_one(row)
        self._model.learn_one(self._scaler.transform_one(row), label, w=weight)

    def scorer(self) -> "Plain":
        return self

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        p = float(self._model.predict_proba_one(self._scaler.transform_one(self._row(features)))[True])
        log_odds = logit(min(max(p, 1e-15), 1.0 - 1e-15))
        return Prediction(sigmoid(log_odds), log_odds, log_odds, {})

    def _row(self, features: Mapping[str, FeatureValue]) -> dict[str, float]:
        return {name: float(features.get(name, 0.0)) for name in self.schema.numbers}
