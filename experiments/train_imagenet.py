"""Train a network of found cells on ImageNet with the settings of the paper (section 3.2, reference code).

Paper:    26.7 % top-1 and 8.7 % top-5 error of the cells found on CIFAR-10, 4.7 million weights, 530 million multiply-adds.
Hardware: 12 days on one GTX 1080 Ti in the paper.
Settings: 250 epochs, batch 128, C = 48, 14 cells, step size 0.1 times 0.97 an epoch, weight decay 3e-5, label smoothing
          0.1, auxiliary weight 0.4, no dropped paths; random parts of 224×224, mirrored, with changed colours. The
          50,000 validation images are the test: the last epoch is tested, once, on their middle.
Data:     imagenet2012, or imagenette (10 classes), as tensorflow-datasets prepares them in array_record form;
          pip install 'jdarts[imagenet]' for the processes that decode.
Command:  python experiments/train_imagenet.py            (or: make train-imagenet ARGS="--dataset imagenette")
"""

from jdarts.command import run_command
from jdarts.train import TrainConfig
from jdarts.train.command import main

CONFIG = TrainConfig(
    dataset="imagenet2012",
    network="imagenet",
    channels=48,
    cells=14,
    drop_path=0.0,
    epochs=250,
    batch_size=128,
    learning_rate=0.1,
    schedule="exponential",
    learning_rate_decay=0.97,
    weight_decay=3e-5,
    label_smoothing=0.1,
    cutout=0,
    color_jitter=(0.4, 0.4, 0.4, 0.2),
)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))
