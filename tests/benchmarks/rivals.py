"""What one would write without the audit: import torch, load the whole artifact, look at every layer."""

import sys


def module(path: str) -> None:
    import torch

    model = torch.load(path, weights_only=False)
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            print(name, layer.training, layer.eps, layer.running_var.min().item())


def state_dict(path: str) -> None:
    import torch

    for name, tensor in torch.load(path).items():
        if name.endswith("running_var"):
            print(name, tensor.shape, tensor.min().item())


def torchscript(path: str) -> None:
    import torch

    model = torch.jit.load(path)
    for name, layer in model.named_modules():
        if "BatchNorm" in layer.original_name:
            print(name, layer.training, layer.running_var.min().item())


def exported_program(path: str) -> None:
    import torch

    program = torch.export.load(path)
    for node in program.graph.nodes:
        if "batch_norm" in str(node.target):
            print(node.name, node.args[5])


def nothing() -> None:
    import typer
    from rich.console import Console
    from rich.table import Table

    app = typer.Typer()

    @app.command()
    def main() -> None:
        table = Table("layer", "mode")
        table.add_row("bn", "train")
        Console().print(table)

    app()


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    sys.argv = sys.argv[:1]
    {
        "module": module,
        "state-dict": state_dict,
        "torchscript": torchscript,
        "exported-program": exported_program,
        "nothing": nothing,
    }[name](*rest)
