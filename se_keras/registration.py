"""Keras knows this package's layers once both are imported, in either order: a saved model loads with `import se_keras` alone."""

import importlib
import importlib.abc
import importlib.util
import pkgutil
import sys


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Registers the layers when Keras is imported later: `import se_keras` itself stays free of it."""

    _looking = False

    def find_spec(self, name, path=None, target=None):
        if name != "keras" or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking = False
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module):  # not before: a program may ask for the spec, as TensorFlow does, and import nothing
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            if not _half_imported():
                register()

        spec.loader.exec_module = run_and_register
        return spec


def _half_imported():
    """Whether a module of this package is being imported, and asked for Keras: what imports it in turn would find half of it."""
    return any(getattr(module.__spec__, "_initializing", False) for name, module in list(sys.modules.items())
               if name.startswith("se_keras.") and getattr(module, "__spec__", None) is not None)


def register():
    """Import every module of `models`: each registers its own layers."""
    models = importlib.import_module("se_keras.models")
    for module in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"{models.__name__}.{module.name}")


def when_keras_is_there():
    """`register` now where Keras is imported, else as soon as it is."""
    if "keras" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _AfterKeras())
