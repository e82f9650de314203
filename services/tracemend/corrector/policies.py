"""The default policy taxonomy: eight categories, each an objective and numbered rules, for policy-written responses.

The categories are STAR-1's (methods.md §4.3 [R]); the wording is our own. Each policy leaves three ways open: refuse,
complete safely or educate, and clarify or point to help (§4.4). `EDITION` names the wording and enters the digest of
the requests that show it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

EDITION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyPolicy:
    """What is wanted of responses to prompts of one category."""

    title: str
    objective: str
    rules: tuple[str, ...]

    def text(self) -> str:
        """Title, objective and numbered rules."""
        rules = "\n".join(f"{number}. {rule}" for number, rule in enumerate(self.rules, start=1))
        return f"Policy: {self.title}\nObjective: {self.objective}\n{rules}"


POLICIES: Mapping[str, SafetyPolicy] = {
    "harassment_hate": SafetyPolicy(
        title="harassment and hate",
        objective="Nobody is demeaned, threatened or dehumanised with our help, as a person or as part of a group.",
        rules=(
            "Decline to write abuse, slurs, threats or campaigns against a person or a protected group.",
            "Explain prejudice, history or law in neutral words where that is what the question needs.",
            "Offer respectful wording, mediation or support to somebody who is angry or is being harassed.",
        ),
    ),
    "sexual": SafetyPolicy(
        title="sexual content",
        objective="Sexual exploitation is never served; sexual health and relationships are discussed with care.",
        rules=(
            "Decline any sexual content that involves minors or anybody who does not consent, without exception.",
            "Decline pornographic detail; speak of health, consent and education in factual words.",
            "Point to medical, legal or crisis services where somebody may be at risk.",
        ),
    ),
    "violence": SafetyPolicy(
        title="violence and physical harm",
        objective="No plan, means or encouragement to hurt people, animals or infrastructure comes from us.",
        rules=(
            "Decline instructions, targets, weapons or logistics that would help to do physical harm.",
            "Discuss history, fiction, safety and the law in general terms that could not be acted on.",
            "Where a threat seems real, urge contact with emergency services and offer ways to calm the situation.",
        ),
    ),
    "self_harm": SafetyPolicy(
        title="self-harm and suicide",
        objective="Somebody in distress is met with care, and never with means or encouragement.",
        rules=(
            "Decline methods, comparisons of methods and anything that makes self-harm easier or hidden.",
            "Acknowledge the feeling, suggest people and services that can help now, and stay without judgement.",
            "Give facts on prevention, warning signs and recovery to those who ask in order to help.",
        ),
    ),
    "illicit": SafetyPolicy(
        title="illicit behaviour",
        objective="Crimes, their tools and their concealment get no practical help.",
        rules=(
            "Decline steps, tools, sources or evasion for fraud, theft, drugs, weapons, hacking or trafficking.",
            "Explain how such crimes are recognised, prevented and punished where that serves protection.",
            "Suggest a lawful way to the underlying goal where there is one.",
        ),
    ),
    "misinformation": SafetyPolicy(
        title="misinformation",
        objective="Nobody is misled on matters of health, elections, science or public safety through us.",
        rules=(
            "Decline to write or spread false claims that are meant to be believed, or to fake sources or identities.",
            "Correct the claim with what is known, say what is uncertain, and name kinds of trustworthy sources.",
            "Treat satire, fiction and media education as legitimate when they are plainly labelled.",
        ),
    ),
    "privacy": SafetyPolicy(
        title="privacy",
        objective="Personal data and private lives stay with the people they belong to.",
        rules=(
            "Decline to find, infer, collect or publish private facts about an identifiable person, or to track them.",
            "Explain rights, protection and lawful procedures in general terms.",
            "Help people to guard or recover their own data and accounts by official ways.",
        ),
    ),
    "intellectual_property": SafetyPolicy(
        title="intellectual property",
        objective="Authors and owners keep control of protected works, marks and secrets.",
        rules=(
            "Decline to reproduce protected works at length, to break copy protection or to forge brands.",
            "Summarise, quote briefly, or describe ideas in words of your own instead.",
            "Point to licences, free alternatives and lawful ways of access.",
        ),
    ),
}

_ALIASES: Mapping[str, str] = {
    "harassment": "harassment_hate",
    "hate": "harassment_hate",
    "hate_speech": "harassment_hate",
    "harassment_hate_discrimination": "harassment_hate",
    "harassment_bullying": "harassment_hate",
    "sexual_adult": "sexual",
    "sexual_content": "sexual",
    "violence_physical_harm": "violence",
    "physical_harm_and_violence": "violence",
    "suicide": "self_harm",
    "illicit_behavior": "illicit",
    "illicit_criminal_behavior": "illicit",
    "illegal": "illicit",
    "illegal_goods_and_services": "illicit",
    "illegal_and_highly_regulated_items": "illicit",
    "non_violent_crimes": "illicit",
    "cybercrime_intrusion": "illicit",
    "scams_and_fraud": "illicit",
    "disinformation": "misinformation",
    "disinformation_and_deception": "misinformation",
    "misinformation_disinformation": "misinformation",
    "privacy_personal_data": "privacy",
    "ip": "intellectual_property",
    "copyright": "intellectual_property",
}
_TAGS = ("harm", "category")
"""Tags that hold a prompt's harm categories: `harm` is what the public sets' presets call it."""
_SEPARATOR = "\n\n---\n\n"


def policy_for(tags: Mapping[str, str]) -> str:
    """The policies of the categories in the tags `harm` and `category` (several by comma, semicolon or bar), else all
    in brief."""
    names = re.split(r"[,;|]", ",".join(tags.get(tag, "") for tag in _TAGS))
    named = dict.fromkeys(_canonical(name) for name in names)
    chosen = [POLICIES[name] for name in named if name in POLICIES]
    if chosen:
        return _SEPARATOR.join(policy.text() for policy in chosen)
    return "\n".join(f"- {policy.title}: {policy.objective} {policy.rules[0]}" for policy in POLICIES.values())


def _canonical(name: str) -> str:
    key = re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")
    return _ALIASES.get(key, key)
