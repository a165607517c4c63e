"""Sentences to be spoken for training: quotations and word lists from Debian's packages, and nonsense.

Nothing here is recorded speech or a transcript of one. `Sentences(language)` is an endless, seeded supply.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

FORTUNES = Path("/usr/share/games/fortunes")
DICT = Path("/usr/share/dict")

WORD_LISTS = {
    "en": "american-english",
    "it": "italian",
    "de": "ngerman",
    "sv": "swedish",
    "fr": "french",
    "es": "spanish",
}
QUOTATIONS = {"en": "*", "it": "it/*", "de": "de/*", "cs": "c[sz]/*", "ru": "ru/*", "es": "es/*"}
EN_FILES = set(
    """art computers cookie definitions drugs education fortunes food goedel humorists kids law linux literature love
    magic medicine men-women miscellaneous news paradoxum people perl pets platitudes politics pratchett riddles science
    sports startrek tao wisdom work zippy""".split()
)
LETTERS = {
    "en": "A-Za-z'",
    "it": "A-Za-zàèéìòùÀÈÉÌÒÙ'",
    "de": "A-Za-zäöüßÄÖÜ",
    "cs": "A-Za-záčďéěíňóřšťúůýžÁČĎÉĚÍŇÓŘŠŤÚŮÝŽ",
    "ru": "А-Яа-яЁё",
    "es": "A-Za-záéíóúñüÁÉÍÓÚÑ",
    "sv": "A-Za-zåäöÅÄÖ",
    "fr": "A-Za-zàâçéèêëîïôùûü'",
}
# Consonants and vowels for nonsense; labials and rounded vowels are there more often than in running text.
SYLLABLES = {
    "fi": ("p m v t k s h l r j n p m", "a e i o u y ä ö aa ii uu ai ei ou"),
    "ca": ("p b m f v t d c g s x l ll n ny r j b p m", "a e i o u à è ò ai au"),
    "tr": ("p b m f v t d k g s ş ç c y l r n z b m", "a e ı i o ö u ü"),
    "lv": ("p b m f v t d k g s š č ž l r n j z p m", "a e i o u ā ē ī ū ai au ie"),
    "pl": ("p b m f w t d k g s sz cz ż l ł r n z ś ć p b", "a e i o u y ó ą ę"),
    "nl": ("p b m f v w t d k g s z l r n j h sch p b", "a e i o u aa ee oo ie oe eu ui"),
    "pt": ("p b m f v t d c g s ch j l lh n nh r p b m", "a e i o u ã ão ei ou á é ó"),
    "da": ("p b m f v t d k g s l r n j h p b", "a e i o u y æ ø å"),
    "hu": ("p b m f v t d k g s sz cs zs l r n ny h p b", "a á e é i o ö ő u ü"),
    "ja": ("", ""),
}
KANA = """あ い う え お か き く け こ さ し す せ そ た ち つ て と な に ぬ ね の は ひ ふ へ ほ ま み む め も や ゆ よ ら り る れ ろ わ ん
が ぎ ぐ げ ご ざ じ ず ぜ ぞ だ で ど ば び ぶ べ ぼ ぱ ぴ ぷ ぺ ぽ ま み む め も ぶ ば""".split()
DEVANAGARI = ("प ब म फ भ व त द न क ग स श ल र ज च य ह ट ड प ब म", "ा ि ी ु ू े ै ो ौ")
TELUGU = ("ప బ మ ఫ భ వ త ద న క గ స శ ల ర జ చ య హ ట డ ప బ మ", "ా ి ీ ు ూ ె ే ొ ో")


class Sentences:
    """An endless seeded supply of sentences of one language (ISO 639-1)."""

    def __init__(self, language: str, seed: int) -> None:
        self.language = language
        self.rng = random.Random(f"{language}{seed}")
        self.quotations = list(self._quotations())
        self.words = list(self._words()) or sorted({w for q in self.quotations for w in re.findall(r"\w{3,11}", q.lower())})
        self.rng.shuffle(self.quotations)
        self.used = 0

    def __iter__(self) -> Iterator[str]:
        while True:
            if self.quotations and self.rng.random() < 0.75:
                self.used += 1
                yield self.quotations[self.used % len(self.quotations)]
            else:
                yield self._made_up()

    def _words(self) -> Iterator[str]:
        path = DICT / WORD_LISTS.get(self.language, "")
        if not path.is_file():
            return
        allowed = re.compile(f"[{LETTERS[self.language]}]{{3,11}}")
        for word in path.read_text("utf-8", "ignore").split():
            if allowed.fullmatch(word) and "'" not in word:
                yield word

    def _quotations(self) -> Iterator[str]:
        pattern = QUOTATIONS.get(self.language)
        if pattern is None:
            return
        letters = LETTERS[self.language]
        for path in sorted(FORTUNES.glob(pattern)):
            if not path.is_file() or path.suffix or (self.language == "en" and path.name not in EN_FILES):
                continue
            for quotation in path.read_text("utf-8", "ignore").split("\n%\n"):
                plain = re.sub(r"\s+", " ", re.split(r"--|—", quotation)[0])
                for part in re.split(r"(?<=[.!?])\s", plain):
                    clean = re.sub(f"[^{letters} ,.?!-]", "", part).strip()
                    if 25 < len(clean) < 110:
                        yield clean

    def _made_up(self) -> str:
        choice, count = self.rng.choice, self.rng.randint(4, 8)
        if self.words:
            # two draws in three must hold a labial: closures are what is hardest to learn
            picked = [w if self.rng.random() < 0.4 else self._with_labial() for w in self.rng.choices(self.words, k=count)]
        else:
            picked = [self._nonsense() for _ in range(count)]
        if count > 5 and self.rng.random() < 0.5:
            picked[count // 2] += ","
        return " ".join(picked) + choice("..?!")

    def _with_labial(self) -> str:
        for _ in range(20):
            word = self.rng.choice(self.words)
            if re.search("[pbm]", word):
                return word
        return word

    def _nonsense(self) -> str:
        choice, length = self.rng.choice, self.rng.randint(1, 4)
        if self.language == "ja":
            return "".join(choice(KANA) for _ in range(length + 1))
        if self.language in ("hi", "mr", "te"):
            consonants, signs = TELUGU if self.language == "te" else DEVANAGARI
            return "".join(choice(consonants.split()) + choice([*signs.split(), ""]) for _ in range(length))
        onsets, vowels = SYLLABLES[self.language]
        word = "".join(choice(onsets.split()) + choice(vowels.split()) for _ in range(length))
        return word + choice(["", "", "n", "s", "m", "l"])
