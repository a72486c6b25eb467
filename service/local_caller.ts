/** Whoever uses a control socket, or a file beside one, as the audit log names them: "local root (login anna)". */
import { readFileSync } from 'node:fs';
import type net from 'node:net';
import { descriptorOf } from './descriptor.js';

/** Native: who connected, by the descriptor of the connection (unix(7), SO_PEERCRED). */
export type PeerOf = (descriptor: number) => { pid: number; uid: number };

const LOCAL = 'local';
/** proc(5), loginuid: nobody has logged in. */
const NO_LOGIN = 0xffff_ffff;

/** Of a connection to a control socket; "local" where that cannot be found out. */
export function localCaller(connection: net.Socket, peerOf: PeerOf): string {
  try {
    const { pid, uid } = peerOf(descriptorOf(connection));
    return named(uid, String(pid));
  } catch {
    return LOCAL;
  }
}

/** Who runs this process. */
export function localSelf(): string {
  const uid = process.getuid?.();
  return uid === undefined ? LOCAL : named(uid, 'self');
}

/** Whether that is what somebody on this machine is called. */
export function isLocal(who: string): boolean {
  return who === LOCAL || who.startsWith(`${LOCAL} `);
}

/** Of the address that gRPC hands on of a call by a control socket. */
export function localName(address: string): string {
  return isLocal(address) ? address : LOCAL;
}

function named(uid: number, pid: string): string {
  const login = loginOf(pid);
  const user = `${LOCAL} ${nameOf(uid)}`;
  return login === null || login === uid ? user : `${user} (login ${nameOf(login)})`;
}

/** Who has logged in, whatever they have become since by sudo; null: nobody, or it is not known. */
function loginOf(pid: string): number | null {
  try {
    const uid = Number(readFileSync(`/proc/${pid}/loginuid`, 'utf8'));
    return Number.isInteger(uid) && uid !== NO_LOGIN ? uid : null;
  } catch {
    return null;
  }
}

/** By the machine's own list alone: a directory service may not answer. */
function nameOf(uid: number): string {
  try {
    const users = readFileSync('/etc/passwd', 'utf8').split('\n');
    const found = users.find((line) => line.split(':')[2] === String(uid));
    return found?.split(':')[0] ?? `uid ${uid}`;
  } catch {
    return `uid ${uid}`;
  }
}
