"""The page of `nc-refiner app` as a hosted demo: one file for a service that starts a Gradio script.

Needs nc_refiner[app]. Uploads and runs are kept small: a hosted machine is shared.
"""

from nc_refiner.app import Job, Limits, build, launch

if __name__ == "__main__":
    limits = Limits(megabytes=20, frames=16, height=320)
    launch(build(Job(limits)), "0.0.0.0", 7860, limits.megabytes)
