"""A small study on disk: 30 patients with two images, 10 of them with one lesion, and two systems."""

import json

import numpy as np

PATIENTS, POSITIVE = 30, 10


def write_study_files(folder, seed=0, start=0):
    """gt.json, old.json and new.json (COCO results), old.csv and new.csv (image scores); returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images = [
        {"id": n, "height": 100, "width": 100, "patient_id": start + n // 2, "laterality": "LR"[n % 2]}
        for n in range(2 * PATIENTS)
    ]
    lesions = list(range(0, 2 * POSITIVE, 2))
    annotations = [
        {"id": k + 1, "image_id": n, "category_id": 1, "bbox": [10, 10, 20, 20]} for k, n in enumerate(lesions)
    ]
    categories = [{"id": 1, "name": "malignant"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "gt.json").write_text(json.dumps(truth))
    for name, effect in (("old", 0.8), ("new", 1.6)):
        entries, rows = [], ["image_id,malignant"]
        for n in range(2 * PATIENTS):
            false = rng.normal(-1.5, 1, 2)
            found = rng.normal(effect - 1.5, 1) if n in lesions else -np.inf
            for place, logit in ((50, false[0]), (75, false[1]), (10, found)):
                if np.isfinite(logit):
                    box = [place, place, 20, 20]
                    score = float(1 / (1 + np.exp(-logit)))
                    entries.append({"image_id": n, "category_id": 1, "bbox": box, "score": score})
            rows.append(f"{n},{1 / (1 + np.exp(-max(*false, found))):.6f}")
        (folder / f"{name}.json").write_text(json.dumps(entries))
        (folder / f"{name}.csv").write_text("\n".join(rows))
    return folder
