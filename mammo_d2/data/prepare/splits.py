"""Patient-wise splits: stratified and seeded; and the search for patients in several splits.

The unit is the group: a patient, or several patients that share an identical image (then they are one person, or one
image filed twice). A group's stratum is the worst of its images: malignant before benign before normal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np


def group_images(patients: Sequence[Hashable], hashes: Sequence[str | None]) -> list[int]:
    """Number the groups: images of one patient, and of patients that share an image, get the same number.

    Args:
        patients: patient of each image.
        hashes: content hash of each image, None where unknown.

    Returns:
        Group number of each image, from 0 in order of first appearance.
    """
    parent = list(range(len(patients)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first: dict[Hashable, int] = {}
    for index, (patient, content) in enumerate(zip(patients, hashes, strict=True)):
        for key in (("patient", patient), ("hash", content)):
            if key[1] is None:
                continue
            other = first.setdefault(key, index)
            # The earlier image stays the root, so that numbers follow the order of appearance.
            low, high = sorted((root(other), root(index)))
            parent[high] = low
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(index), len(numbers)) for index in range(len(patients))]


def split_groups(
    groups: Sequence[Hashable],
    strata: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Assign each image to a split, whole groups at a time, each stratum in the given proportions.

    Within a stratum the groups are shuffled and dealt out so that every split has its share to within one group; what
    rounding leaves over goes to the split that lacks most over all strata. The result depends on the order of the
    groups' names and the seed alone.

    Args:
        groups: group of each image.
        strata: stratum of each image; a group has the stratum of its worst image (malignant, benign, then others by
            name).
        fractions: split name -> part, summing to 1.
        seed: of the shuffle.

    Returns:
        Split name of each image.

    Raises:
        ValueError: fractions that are negative or do not sum to 1.
    """
    if any(f < 0 for f in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"split fractions {dict(fractions)} must be positive and sum to 1")
    stratum_of_group = _worst_strata(groups, strata)
    members: dict[str, list[Hashable]] = defaultdict(list)
    for group in sorted(stratum_of_group, key=str):
        members[stratum_of_group[group]].append(group)
    rng = np.random.default_rng(seed)
    names = list(fractions)
    shares = np.array([fractions[n] for n in names])
    owed = np.zeros(len(names))
    assigned: dict[Hashable, str] = {}
    for stratum in sorted(members, key=_severity):
        here = [members[stratum][i] for i in rng.permutation(len(members[stratum]))]
        owed += shares * len(here)
        counts = np.floor(shares * len(here) + 1e-9).astype(int)
        for _ in range(len(here) - int(counts.sum())):
            lacking = np.where(shares > 0, owed - counts, -np.inf)
            counts[int(np.argmax(lacking))] += 1
        owed -= counts
        for group, name in zip(here, np.repeat(names, counts), strict=True):
            assigned[group] = str(name)
    return [assigned[g] for g in groups]


def make_folds(groups: Sequence[Hashable], strata: Sequence[str], folds: int, seed: int) -> list[int]:
    """Assign each image to one of ``folds`` folds, whole groups at a time, strata balanced.

    Raises:
        ValueError: fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if folds < 2 or len(set(groups)) < folds:
        raise ValueError(f"{folds} folds need 2 or more, and as many patients; there are {len(set(groups))} patients")
    worst = _worst_strata(groups, strata)
    # Codes in order of the names, so that the folds do not depend on how groups are represented.
    codes = {group: index for index, group in enumerate(sorted(worst, key=str))}
    y, who = [worst[g] for g in groups], [codes[g] for g in groups]
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold_of = [-1] * len(groups)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(y)), y, who)):
        for index in held_out:
            fold_of[int(index)] = fold
    return fold_of


def find_duplicates(hashes: Mapping[str, str]) -> list[list[str]]:
    """Names that share a content hash: a sorted list per hash that occurs more than once."""
    by_hash: dict[str, list[str]] = defaultdict(list)
    for name, content in hashes.items():
        by_hash[content].append(name)
    return sorted(sorted(names) for names in by_hash.values() if len(names) > 1)


def find_leaks(groups: Sequence[Hashable], splits: Sequence[str]) -> dict[Hashable, list[str]]:
    """Groups that are in more than one split, with the splits in order of their names."""
    seen: dict[Hashable, set[str]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        seen[group].add(split)
    return {group: sorted(names) for group, names in seen.items() if len(names) > 1}


def _severity(stratum: str) -> tuple[int, str]:
    return {"malignant": 0, "benign": 1}.get(stratum, 2), stratum


def _worst_strata(groups: Sequence[Hashable], strata: Sequence[str]) -> dict[Hashable, str]:
    worst: dict[Hashable, str] = {}
    for group, stratum in zip(groups, strata, strict=True):
        worst[group] = min(worst.get(group, stratum), stratum, key=_severity)
    return worst
