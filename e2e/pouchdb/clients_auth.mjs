// PouchDB with pouchdb-authentication as a client of a hub with open sign-up and a database per user.
// Arguments: the hub's URL, an administrator's name and password. Whatever is not as expected ends it with status 1.
import assert from 'node:assert/strict';
import {createRequire} from 'node:module';
import PouchDB from 'pouchdb';
import memory from 'pouchdb-adapter-memory';
import authentication from 'pouchdb-authentication';

const [hub, admin, adminPassword] = process.argv.slice(2);

// The plugin makes its requests with the package "request" and PouchDB with fetch: in
// Node their cookies are kept together by hand, which a browser does by itself.
const fromPlugin = createRequire(createRequire(import.meta.url).resolve('pouchdb-ajax'));
const request = fromPlugin('request');
PouchDB.plugin(memory).plugin(authentication);

// A browser is one user's browser: a jar of cookies.
function browser() {
  const jar = request.jar();
  const fetch = (url, opts) => {
    const cookie = jar.getCookieString(hub);
    const headers = new Headers(opts.headers);
    if (cookie) headers.set('Cookie', cookie);
    return PouchDB.fetch(url, {...opts, headers});
  };
  return {
    jar,
    ajax: {ajax: {jar}},
    open: name => new PouchDB(`${hub}/${name}`, {skip_setup: true, fetch}),
  };
}

const fails = (promise, status, reason) => assert.rejects(promise, e => {
  assert.equal(e.status, status, `${e.status} ${e.name}: ${e.reason ?? e.message}`);
  if (reason) assert.match(String(e.reason ?? e.message), reason);
  return true;
});

const perUser = name => 'userdb-' + Buffer.from(name).toString('hex');

const bob = browser();
const db = bob.open(perUser('bob'));
const {ajax} = bob;

// Nobody yet.
let session = await db.getSession(ajax);
assert.deepEqual(session.userCtx, {name: null, roles: []});
assert.ok(session.ok && session.info.authentication_handlers.includes('cookie'));
await fails(db.get('note'), 404, /Database does not exist/);
await fails(db.logIn('bob', 'secret', ajax), 401, /Name or password is incorrect/);

// Signing up.
const signed = await db.signUp('bob', 'secret', {...ajax, metadata: {email: 'bob@example.org', likes: ['a', 'b']}});
assert.equal(signed.id, 'org.couchdb.user:bob');
assert.match(signed.rev, /^1-/);
await fails(db.signUp('bob', 'other', ajax), 409);
await fails(db.signUp('eve', 'secret', {...ajax, roles: ['crew']}), 403, /Only _admin may set roles/);
await fails(db.signUp('_eve', 'secret', ajax), 403);
await fails(db.signUp('e:ve', 'secret', ajax), 403);

// Logging in.
await fails(db.logIn('bob', 'wrong', ajax), 401, /Name or password is incorrect/);
const login = await db.logIn('bob', 'secret', ajax);
assert.deepEqual(login, {ok: true, name: 'bob', roles: []});
session = await db.getSession(ajax);
assert.deepEqual(session.userCtx, {name: 'bob', roles: []});
assert.equal(session.info.authenticated, 'cookie');
assert.match(bob.jar.getCookieString(hub), /^AuthSession=/);

// Their document.
let user = await db.getUser('bob', ajax);
assert.equal(user.name, 'bob');
assert.equal(user.email, 'bob@example.org');
assert.deepEqual(user.likes, ['a', 'b']);
assert.equal(user.password, undefined);
assert.equal(user.password_scheme, 'pbkdf2');
await fails(db.getUser('ann', ajax), 404);
const put = await db.putUser('bob', {...ajax, metadata: {email: 'bob@example.com'}});
assert.match(put.rev, /^2-/);
user = await db.getUser('bob', ajax);
assert.equal(user.email, 'bob@example.com');
assert.deepEqual(user.likes, ['a', 'b']);
await fails(db.putUser('bob', {...ajax, roles: ['_admin']}), 403);
await fails(db.putUser('bob', {...ajax, roles: ['crew']}), 403, /Only _admin may edit roles/);
session = await db.getSession(ajax);
assert.equal(session.userCtx.name, 'bob', 'what is not the password does not end the session');

// Their database, which nobody else has: PouchDB itself, with the session's cookie.
await db.put({_id: 'note', text: 'mine', _attachments: {a: {content_type: 'text/plain', data: Buffer.from('hi')}}});
const local = new PouchDB('bob', {adapter: 'memory'});
await local.put({_id: 'local'});
const sync = await PouchDB.sync(local, db);
assert.equal(sync.push.docs_written, 1);
assert.equal(sync.pull.docs_written, 1);
assert.equal((await local.getAttachment('note', 'a')).toString(), 'hi');
const carol = browser();
const carols = carol.open(perUser('carol'));
await carols.signUp('carol', 'secret', carol.ajax);
await carols.logIn('carol', 'secret', carol.ajax);
assert.equal((await carols.info()).doc_count, 0);
await fails(carol.open(perUser('bob')).get('note'), 403, /You are not allowed to access this db/);
await fails(carols.getUser('bob', carol.ajax), 404);
await fails(carols.changePassword('bob', 'hers', carol.ajax), 404);
await fails(carols.deleteUser('bob', carol.ajax), 404);

// Another password ends the sessions of the old one.
await db.changePassword('bob', 'better', ajax);
session = await db.getSession(ajax);
assert.equal(session.userCtx.name, null);
await fails(db.logIn('bob', 'secret', ajax), 401);
await db.logIn('bob', 'better', ajax);
assert.equal((await db.get('note')).text, 'mine');

// Logging out.
assert.deepEqual(await db.logOut(ajax), {ok: true});
session = await db.getSession(ajax);
assert.equal(session.userCtx.name, null);
await fails(db.get('note'), 401);

// An administrator of the server, by Basic.
const root = new PouchDB(`${hub}/notes`, {skip_setup: true, auth: {username: admin, password: adminPassword}});
const none = {ajax: {jar: request.jar()}};
assert.ok((await root.getUser('carol', none)).derived_key);
await root.putUser('carol', {...none, roles: ['crew']});
session = await carols.getSession(carol.ajax);
assert.deepEqual(session.userCtx, {name: 'carol', roles: ['crew']}, 'roles hold at once');
await root.deleteUser('carol', none);
session = await carols.getSession(carol.ajax);
assert.equal(session.userCtx.name, null);
await fails(carols.signUp('carol', 'again', carol.ajax), 409); // her database is still there

// Their own account is theirs to remove.
await db.logIn('bob', 'better', ajax);
assert.ok((await db.deleteUser('bob', ajax)).ok);
await fails(db.logIn('bob', 'better', ajax), 401);
await local.destroy();
