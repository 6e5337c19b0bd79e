"""The agent on every host of a job but the first: it trains along, and the first host reports."""

import threading
import traceback
from collections.abc import Mapping

from mlops.jobs import ExitCode, JobDocument
from mlops.storage import ObjectStore
from training.environment import find_devices
from training.place import Place
from training.script import shortened
from training.staging import BadInputError, StoppedError
from training.work import Ending, Notes, Work


class Companion:
    """One host's part of a job. :meth:`run` does all of it; :meth:`stop` ends it early."""

    def __init__(
        self,
        document: JobDocument,
        place: Place,
        store: ObjectStore,
        environment: Mapping[str, str],
    ) -> None:
        self._document, self._place = document, place
        self._notes = Notes(place)
        self._work = Work(document, place, store, environment, find_devices(), self._notes.write)

    def run(self) -> ExitCode:
        """Train along; why it failed stands in the log of this host."""
        limit = threading.Timer(self._document.max_runtime, self.stop)
        limit.daemon = True
        limit.start()
        stopped = Ending(ExitCode.PLATFORM_FAULT, "the job was asked to stop")
        try:
            self._work.checkpoints.restore(self._work.stopping)
            code = self._work.run()
            ending = stopped if self._work.stopping.is_set() or code is None else self._ending(code)
        except BadInputError as error:
            ending = Ending(ExitCode.BAD_INPUT, str(error))
        except StoppedError:
            ending = stopped
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine gets the code that says "not the user's doing"
            self._notes.write(traceback.format_exc())
            ending = Ending(ExitCode.PLATFORM_FAULT, f"the job could not go on: {error!r}")
        finally:
            limit.cancel()
        reason = shortened(ending.reason)
        self._notes.write(reason)
        if ending.code is not ExitCode.DONE:
            self._place.tell_failure(reason)
        self._notes.close()
        return ending.code

    def stop(self) -> None:
        """End the script."""
        self._work.halt()

    def _ending(self, code: int) -> Ending:
        if code == 0:
            return Ending(ExitCode.DONE, "this host's part of the training ended")
        return self._work.ending(code)
