"""Search cells on the handwritten digits, then train, test and export the network that was found."""

import argparse

import nasfast

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", default="runs/from-python", help="run folder to make")
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()

result = nasfast.run_search(
    data="digits",
    strategy="darts",
    epochs=options.epochs,
    channels=4,
    layers=3,
    steps=2,
    batch_size=128,
    warmup_epochs=0,
    retrain=False,  # the network is trained below
    out=options.out,
)
print("cells   ", result.genotype)

trained = nasfast.retrain_run(options.out, epochs=options.epochs, channels=4, layers=3)
accuracy, loss = nasfast.evaluate_model(options.out)
print(f"trained  {trained.params:,} parameters, test accuracy {accuracy:.3f}, test loss {loss:.3f}")
print("report  ", nasfast.build_report(options.out))
print("exported", nasfast.export_model(options.out, format="pt2"))
