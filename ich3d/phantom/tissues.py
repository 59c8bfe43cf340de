"""Hounsfield units of tissues and bleeds, and volumes of bleeds, each with its source.

Cala 1981          Cala et al., AJNR 2:41: white matter 30 +- 3.4, deep grey 33 +- 3 HU in
                   volunteers.
Neurosurgical Atlas, neuroradiology reference table (2018): oedema 10 to 14, CSF 5, fat -60 to -120,
                   cranial bone 600, compact bone 1000, clot 75 to 80 HU.
Geeky Medics       CT head interpretation: CSF 15, white 20 to 30, grey 37 to 45, coagulated blood
                   50 to 75, bone 200 to 3000 HU.
The Common Vein    CT principles: soft tissue 50 HU.
Lee 2013           Lee et al., Yonsei Med J 54:28: dural sinus 25 to 54 HU by haematocrit.
PMC8051442         AJNR, attenuation and H:H ratio: sinus 52.8 +- 6.7 HU, thrombosed 73.9 +- 9.2 HU.
RRP 2015           Radiol Res Pract 2015:581437: thrombosed sinus 67 HU and above.
Lee 1997           Lee et al., J Korean Med Sci 12:353: 98.6 % of acute subdurals are hyperdense.
Robinson 2022      Int J Stroke: median intracerebral volume 14.0 mL; lobar 28.8, deep 9.8.
Son 2013           J Korean Neurosurg Soc 54:211: three in four acute subdurals need no operation.
32,401 CTs         six years' head CTs with 262 acute subdurals: 72 of 232 are at most 3 mm thick.
Sullivan 1999      AJNR 20:107: 160 of 252 epidurals were small enough to be watched.
Bullock 2006       Neurosurgery 58(3 Suppl):S7: epidurals are operated from 30 mL or 15 mm on.
Neurosurgery 2010  67:1044: mean intraventricular volume 3.8 mL (good outcome), 11.8 (poor).
Zijlstra 2016      AJNR 37:1588: total blood volume of aneurysmal subarachnoid bleeds, measured
                   on CT.
Al-Ameri 2020      Int J Morphol: pineal calcification in 68 %, 4.6 x 4.0 mm; choroid plexus in
                   54 %.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True)
class HuRange:
    """Range in HU from which each study's value is drawn uniformly.

    `source` names entries of the list at the top of this module.
    """

    low: float
    high: float
    source: str

    def draw(self, rng: np.random.Generator) -> float:
        """One value in HU."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class VolumeRange:
    """Volumes in mL: log-normal around `median`, SD of the logarithm `spread`, within low..high.

    `source` names entries of the list at the top of this module.
    """

    median: float
    spread: float
    low: float
    high: float
    source: str

    def draw(self, rng: np.random.Generator) -> float:
        """One volume in mL; values outside low..high are drawn again."""
        while True:
            volume_ml = float(self.median * np.exp(self.spread * rng.standard_normal()))
            if self.low <= volume_ml <= self.high:
                return volume_ml


TISSUES: Final = {
    "white": HuRange(27, 31, "Cala 1981"),
    "grey": HuRange(36, 40, "Geeky Medics; Cala 1981 (grey above white)"),
    "deep_grey": HuRange(33, 38, "Cala 1981"),
    "csf": HuRange(4, 12, "Neurosurgical Atlas; Geeky Medics"),
    "oedema": HuRange(12, 22, "Neurosurgical Atlas"),
    "dura": HuRange(48, 62, "as the sinuses that it holds, PMC8051442"),
    "sinus": HuRange(44, 62, "PMC8051442; Lee 2013"),
    "calcium": HuRange(90, 220, "Geeky Medics: above 100, less where a voxel is part filled"),
    "table": HuRange(1000, 1500, "Neurosurgical Atlas: compact bone from 1000"),
    "diploe": HuRange(350, 700, "Neurosurgical Atlas: cranial bone 600 over all layers"),
    "petrous": HuRange(1300, 1800, "Geeky Medics: bone 200 to 3000"),
    "muscle": HuRange(45, 60, "The Common Vein"),
    "skin": HuRange(20, 50, "The Common Vein, part filled with fat"),
    "fat": HuRange(-110, -70, "Neurosurgical Atlas"),
    "vitreous": HuRange(5, 15, "as CSF"),
}  # fmt: skip
"""HU of each tissue, without noise."""

THROMBUS: Final = HuRange(66, 82, "PMC8051442; RRP 2015")
"""HU of a dense dural sinus, a look-alike of blood."""

BLEEDS: Final = {
    "epidural": HuRange(55, 78, "Geeky Medics; Neurosurgical Atlas"),
    "intraparenchymal": HuRange(54, 78, "Geeky Medics; Neurosurgical Atlas"),
    "intraventricular": HuRange(50, 70, "Geeky Medics; diluted by CSF"),
    "subarachnoid": HuRange(50, 68, "Geeky Medics: coagulated blood; diluted by CSF"),
    "subdural": HuRange(50, 72, "Geeky Medics; Lee 1997"),
}
"""HU of each subtype's blood, without noise."""

VOLUMES_ML: Final = {
    "epidural": VolumeRange(11, 0.8, 2, 90, "Bullock 2006; Sullivan 1999"),
    "deep": VolumeRange(9.8, 1.0, 0.6, 80, "Robinson 2022"),
    "lobar": VolumeRange(28.8, 1.0, 0.6, 110, "Robinson 2022"),
    "intraventricular": VolumeRange(4, 0.9, 0.6, 30, "Neurosurgery 2010"),
    "subarachnoid": VolumeRange(7, 0.8, 1, 40, "Zijlstra 2016; traumatic ones are smaller"),
    "subdural": VolumeRange(12, 0.9, 1.5, 120, "32,401 CTs: 31 % are at most 3 mm thick; Son 2013"),
}  # fmt: skip
"""Volumes by subtype; an intraparenchymal bleed is `deep` or `lobar`."""


def draw_tissues(rng: np.random.Generator) -> dict[str, float]:
    """One value in HU for each tissue, drawn in the order of `TISSUES`."""
    return {name: hu_range.draw(rng) for name, hu_range in TISSUES.items()}
