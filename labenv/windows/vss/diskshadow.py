"""DiskShadow: the interpreter of its scripts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.errors import FileProblem
from labenv.windows.volumes import full_path
from labenv.windows.vss import codes, document, text
from labenv.windows.vss.codes import VssError
from labenv.windows.vss.model import Component, Context
from labenv.windows.vss.records import ShadowRecord
from labenv.windows.vss.requestor import BackupComponents
from labenv.windows.vss.restore import RestoreComponents, read_metadata
from labenv.windows.vss.scriptline import ScriptError, guid_of, names, words_of
from labenv.windows.vss.writer import Writer

if TYPE_CHECKING:
    from labenv.windows.host import Host

OPTIONS = ("differential", "plex", "transportable", "rollbackrecover", "txfrecover", "noautorecover")
NOT_HERE = ("expose", "unexpose", "import", "break", "revert", "mask", "exec", "simulate")

Handler = Callable[["list[str]"], Coroutine[None, None, None]]


class DiskShadow:
    """One run of DiskShadow. What it prints is in ``lines``.

    A command that fails ends the script, and the backup that was under way is aborted. A writer that fails does so
    only if it was verified; otherwise the backup goes on without it.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._vss = host.vss
        self.lines: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self._context = Context.VOLATILE
        self._options: frozenset[str] = frozenset()
        self._metadata = ""
        self._verbose = False
        self._verified: list[str] = []
        self._excluded: list[str] = []
        self._volumes: list[tuple[str, str, UUID | None]] = []
        self._aliases: dict[str, str] = {}
        self._backup = False
        self._components: BackupComponents | None = None
        self._made: list[ShadowRecord] = []
        self._loaded: list[Component] = []
        self._restore: RestoreComponents | None = None

    async def run(self, script: str) -> int:
        """Run a script; returns the exit code: 0, or 1 if a command failed."""
        host = self._host
        self.lines += ["Microsoft DiskShadow version 1.0", ""]
        self.lines.append(f"On computer:  {host.name.upper()},  {text.moment(host.clock.time)}")
        self.lines.append("")
        try:
            for number, line in enumerate(script.splitlines(), 1):
                if not await self._line(number, line.strip()):
                    break
        except VssError as error:
            self.lines += text.failure(error)
            if self._verbose:
                self.lines.append(f"\t- {error.detail}")
            await self._abort()
            return 1
        except ScriptError as error:
            self.lines += ["", str(error)]
            await self._abort()
            return 1
        else:
            await self._end()
        finally:
            for session in (self._components, self._restore):
                if session is not None:
                    session.release()
        return 0

    async def _line(self, number: int, line: str) -> bool:
        """Run one line; False ends the script."""
        if not line or line.startswith("#") or line.lower().split()[0] == "rem":
            return True
        self.lines.append(f"-> {line}")
        words = words_of(line, self._aliases)
        command = words[0].lower()
        if command in ("exit", "quit"):
            return False
        if command in NOT_HERE:
            raise ScriptError(f"Line {number}: the lab's DiskShadow has no command {words[0].upper()}.")
        handlers: dict[str, Handler] = {
            "set": self._set,
            "writer": self._writer,
            "begin": self._begin,
            "end": self._end_session,
            "add": self._add,
            "create": self._create,
            "list": self._list,
            "delete": self._delete,
            "reset": self._reset_command,
            "load": self._load,
        }
        if command not in handlers:
            raise ScriptError(f"Line {number}: {words[0]} is not a command of DiskShadow.")
        await self._vss.fault("vss.requestor", phase=" ".join(words[:2]).lower())
        await handlers[command](words[1:])
        return True

    # -- settings ----------------------------------------------------------------------------------------------

    async def _set(self, words: list[str]) -> None:
        kind, *rest = [w.lower() for w in words] or [""]
        if kind == "":
            self.lines += [f"CONTEXT {self._context.value}", f"OPTION {' '.join(sorted(self._options))}"]
            self.lines += [f"METADATA {self._metadata}", f"VERBOSE {'ON' if self._verbose else 'OFF'}"]
        elif kind == "context":
            try:
                self._context = Context(" ".join(rest))
            except ValueError:
                raise ScriptError(f"SET CONTEXT does not know {' '.join(rest)}.") from None
        elif kind == "option":
            unknown = [w for w in rest if w not in OPTIONS]
            if unknown or not rest:
                raise ScriptError(f"SET OPTION does not know {' '.join(unknown) or 'nothing'}.")
            if "noautorecover" in rest and "rollbackrecover" in rest:
                raise ScriptError("SET OPTION: noautorecover and rollbackrecover exclude each other.")
            self._options = frozenset(rest)
        elif kind == "metadata" and len(words) == 2:
            self._metadata = full_path(words[1])
            if self._host.files.exists(self._metadata):
                self.lines.append("The existing file will be overwritten.")
        elif kind == "verbose" and rest in (["on"], ["off"]):
            self._verbose = rest == ["on"]
        else:
            raise ScriptError(f"SET {' '.join(words)} is not understood.")

    async def _writer(self, words: list[str]) -> None:
        if len(words) < 2 or words[0].lower() not in ("verify", "exclude"):
            raise ScriptError("WRITER takes VERIFY or EXCLUDE and a writer or a component.")
        target = " ".join(words[1:])
        (self._verified if words[0].lower() == "verify" else self._excluded).append(target)

    async def _begin(self, words: list[str]) -> None:
        if [w.lower() for w in words] == ["restore"]:
            await self._begin_restore()
            return
        if [w.lower() for w in words] != ["backup"]:
            raise ScriptError("BEGIN takes BACKUP or RESTORE.")
        if self._backup:
            raise ScriptError("A backup is under way already.")
        self._backup = True

    async def _end_session(self, words: list[str]) -> None:
        if [w.lower() for w in words] == ["restore"]:
            await self._end_restore()
            return
        if [w.lower() for w in words] != ["backup"] or not self._backup:
            raise ScriptError("END BACKUP needs a BEGIN BACKUP before it.")
        self._backup = False
        components = self._components
        if components is None or not components.records:
            return
        components.succeeded = True
        await components.backup_complete()
        self._check(components)
        self._save(components)
        components.release()
        self._components = None

    async def _add(self, words: list[str]) -> None:
        if not words:
            self.lines += [f"VOLUME {path}" for path, _, _ in self._volumes] or ["No volumes were added."]
            return
        kind = words[0].lower()
        if kind == "alias" and len(words) == 3:
            self._aliases[words[1].lower()] = words[2]
            return
        if kind != "volume" or len(words) < 2:
            raise ScriptError(f"ADD {' '.join(words)} is not understood.")
        path, rest = words[1], words[2:]
        alias, provider = "", None
        while rest:
            name = rest[0].lower()
            if len(rest) < 2 or name not in ("alias", "provider"):
                raise ScriptError(f"ADD VOLUME does not understand {' '.join(rest)}.")
            if name == "alias":
                alias = rest[1]
            else:
                provider = guid_of(rest[1])
            rest = rest[2:]
        known = [self._volume(p) for p, _, _ in self._volumes]
        if self._volume(path) in known:
            raise VssError(codes.OBJECT_ALREADY_EXISTS, f"volume {path} was added already")
        self._volumes.append((path, alias, provider))

    def _volume(self, path: str) -> UUID:
        try:
            return self._host.volumes.resolve(path)[0].guid
        except FileProblem as error:
            raise VssError(codes.OBJECT_NOT_FOUND, f"{path}: {error.message}") from error

    async def _reset_command(self, words: list[str]) -> None:
        if self._components is not None:
            await self._abort()
        self._reset()

    # -- creating ----------------------------------------------------------------------------------------------

    async def _create(self, words: list[str]) -> None:
        if not self._volumes:
            raise ScriptError("CREATE needs ADD VOLUME before it.")
        if self._components is not None:
            raise ScriptError("The shadow copies of this session were created already: END BACKUP or RESET first.")
        components = self._components = BackupComponents(self._vss)
        components.initialize_for_backup()
        components.set_context(self._context, self._options)
        components.set_backup_state()
        metadata: dict[Writer, list[Component]] = {}
        if self._context.writers:
            metadata = await components.gather_writer_metadata()
        set_id = components.start_snapshot_set()
        for path, alias, provider in self._volumes:
            shadow = await components.add_to_snapshot_set(path, provider)
            name = alias or f"VSS_SHADOW_{len(components.work.targets)}"
            self._aliases[name.lower()] = text.guid(shadow)
            self.lines.append(f"Alias {name} for shadow ID {text.guid(shadow)} set as environment variable.")
        self._aliases["vss_shadow_set"] = text.guid(set_id)
        self.lines.append(f"Alias VSS_SHADOW_SET for shadow set ID {text.guid(set_id)} set as environment variable.")
        self._choose(components, metadata)
        await components.prepare_for_backup()
        self._check(components)
        self._made = await components.do_snapshot_set()
        self._check(components)
        self._save(components)
        self.lines += ["", f"Querying all shadow copies with the shadow copy set ID {text.guid(set_id)}", ""]
        for (_, alias, _), record in zip(self._volumes, self._made, strict=True):
            self.lines += text.shadow(record, alias=alias, set_alias="VSS_SHADOW_SET")
        self.lines.append(f"Number of shadow copies listed: {len(self._made)}")

    def _choose(self, components: BackupComponents, metadata: dict[Writer, list[Component]]) -> None:
        """Take every component whose volumes are all in the set; say of the others why not."""
        volumes = {t.volume.guid for t in components.work.targets}
        for writer, found in metadata.items():
            if names(self._excluded, writer):
                self.lines.append(f'Excluding writer "{writer.name}", as asked for.')
                continue
            taken = []
            for component in found:
                missing = self._missing(component, volumes)
                if names(self._excluded, writer, component):
                    self.lines.append(f'Excluding component "{component.logical}" of "{writer.name}", as asked for.')
                elif missing:
                    what = f'Component "{component.logical}" from writer "{writer.name}" is excluded from backup,'
                    self.lines += [what, f"because it requires volume {missing} which is not in the shadow copy set."]
                else:
                    taken.append(component)
            if found and not taken:
                why = "because all of its components have been excluded."
                self.lines.append(f'Excluding writer "{writer.name}", {why}')
            for component in taken:
                components.add_component(component)
        chosen = {c.writer for c in components.chosen}
        for target in self._verified:
            if not any(
                (names([target], w) and w.id in chosen)
                or any(names([target], w, c) for c in components.chosen if c.writer == w.id)
                for w in metadata
            ):
                raise VssError(codes.OBJECT_NOT_FOUND, f"{target} was to be verified and takes no part in the backup")

    def _missing(self, component: Component, volumes: set[UUID]) -> str:
        if component.elsewhere:
            return component.elsewhere[0]
        return next((f"\\\\?\\Volume{{{v}}}\\" for v in sorted(component.volumes - volumes, key=str)), "")

    def _check(self, components: BackupComponents) -> None:
        """Look at the writers; one that has failed ends the backup if it, or a component of it, was verified."""
        if not self._context.writers:
            return
        for status in components.gather_writer_status():
            if not status.state.failed:
                continue
            writer = status.writer
            self.lines.append(
                f'The writer "{writer.name}" has failed. State: {status.state.value} ({status.state.name}), '
                f"failure: 0x{status.failure:08x} ({codes.NAMES.get(status.failure, '')})"
            )
            owns = [c for c in components.chosen if c.writer == writer.id]
            if names(self._verified, writer) or any(names(self._verified, writer, c) for c in owns):
                raise VssError(status.failure, f"writer {writer.name} was to be verified and has failed")

    def _save(self, components: BackupComponents) -> None:
        """Write the metadata file: at CREATE, and again when the backup is complete."""
        if not self._context.writers:
            return
        host = self._host
        now = host.clock.time
        folder = f"C:\\Users\\{host.spec.user}\\Documents"
        path = self._metadata or f"{folder}\\{now:%Y-%m-%d_%H-%M-%S}_{host.name.upper()}.cab"
        self._metadata = path
        files = document.metadata_file(components.metadata, components.save_as_xml(), host=host, now=now)
        try:
            host.files.write(path, document.cabinet(files, now=now))
        except FileProblem as error:
            raise ScriptError(f"The metadata file {path} cannot be written: {error.message}") from error
        if self._verbose:
            self.lines += [f"Inserted file {name} into .cab file {path.rpartition(chr(92))[2]}" for name in files]

    async def _abort(self) -> None:
        """The script ends early: the backup is aborted, and what it made goes if it was volatile."""
        components = self._components
        if components is not None and components.can_abort:
            components.abort_backup()
        await self._end()

    async def _end(self) -> None:
        """DiskShadow ends: volatile shadow copies go with it."""
        if not self._context.persistent:
            for record in self._made:
                if str(record.id) in self._vss.shadows:
                    await self._vss.delete(record)
        self._made = []

    # -- restoring ---------------------------------------------------------------------------------------------

    async def _load(self, words: list[str]) -> None:
        if len(words) != 2 or words[0].lower() != "metadata":
            raise ScriptError("LOAD takes METADATA and a file.")
        try:
            self._loaded = read_metadata(self._host.files.read(full_path(words[1])))
        except (FileProblem, ValueError) as error:
            reason = error.message if isinstance(error, FileProblem) else str(error)
            raise ScriptError(f"The metadata file {words[1]} cannot be read: {reason}") from error

    async def _begin_restore(self) -> None:
        if not self._loaded or self._restore is not None:
            raise ScriptError("BEGIN RESTORE needs a LOAD METADATA before it, once.")
        chosen = [c for c in self._loaded if not self._is_excluded(c)]
        self._restore = RestoreComponents(self._vss, chosen)
        await self._restore.gather_writer_metadata()
        await self._restore.pre_restore()

    def _is_excluded(self, component: Component) -> bool:
        writer = self._vss.writer(component.writer)
        return writer is not None and (names(self._excluded, writer) or names(self._excluded, writer, component))

    async def _end_restore(self) -> None:
        if self._restore is None:
            raise ScriptError("END RESTORE needs a BEGIN RESTORE before it.")
        await self._restore.post_restore()
        self._restore.release()
        self._restore = None

    # -- listing and deleting ----------------------------------------------------------------------------------

    async def _list(self, words: list[str]) -> None:
        kind, *rest = [w.lower() for w in words] or [""]
        if kind == "providers":
            for provider in self._vss.providers:
                self.lines.append(f"\t* ProviderID: {text.guid(provider.id)}")
                self.lines.append(f"\t\tType: [{provider.kind}] Name: {provider.name}")
                self.lines.append(f"\t\tVersion: {provider.version}")
            self.lines.append(f"Number of providers registered: {len(self._vss.providers)}")
        elif kind == "writers" and rest in ([], ["metadata"], ["detailed"], ["status"]):
            await self._list_writers(files=rest != ["status"])
        elif kind == "shadows":
            found = await self._select(words[1:])
            for record in found:
                self.lines += text.shadow(record)
            self.lines.append(f"Number of shadow copies listed: {len(found)}")
        else:
            raise ScriptError(f"LIST {' '.join(words)} is not understood.")

    async def _list_writers(self, *, files: bool) -> None:
        components = BackupComponents(self._vss)
        try:
            components.initialize_for_backup()
            found = await components.gather_writer_metadata()
        finally:
            components.release()
        self.lines.append("Listing writer metadata ...")
        for writer, parts in found.items():
            self.lines += text.writer_metadata(writer, parts, files=files)
        self.lines.append(f"Number of writers listed: {len(found)}")

    async def _select(self, words: list[str]) -> list[ShadowRecord]:
        kind = words[0].lower() if words else "all"
        found = await self._vss.list_shadows()
        if kind == "all" and len(words) <= 1:
            return found
        if len(words) != 2 or kind not in ("set", "id", "volume", "oldest"):
            raise ScriptError(f"SHADOWS {' '.join(words)} is not understood.")
        if kind in ("set", "id"):
            wanted = guid_of(words[1])
            chosen = [r for r in found if (r.set_id if kind == "set" else r.id) == wanted]
        else:
            name = f"\\\\?\\Volume{{{self._volume(words[1])}}}\\"
            chosen = [r for r in found if r.volume == name]
            chosen = chosen[:1] if kind == "oldest" else chosen
        if not chosen:
            raise VssError(codes.OBJECT_NOT_FOUND, f"there is no shadow copy for {kind} {words[1]}")
        return chosen

    async def _delete(self, words: list[str]) -> None:
        if not words or words[0].lower() != "shadows":
            raise ScriptError("DELETE takes SHADOWS.")
        if len(words) == 1:
            raise ScriptError("DELETE SHADOWS needs ALL, SET, ID, VOLUME or OLDEST.")
        for record in await self._select(words[1:]):
            self.lines.append(f"Deleting shadow copy {text.guid(record.id)} on volume {record.volume} ...")
            await self._vss.delete(record)
