// pg.js - node's pg through stent. PORT idle MS: quiet for so long, then used. PORT mix ROUNDS: a pool at work, and copies.
const { Client, Pool } = require('pg');
const { to, from } = require('pg-copy-streams');

const [port, mode, number] = process.argv.slice(2).map((word, i) => (i === 1 ? word : Number(word)));
const ca = process.env.TEST_TLS_CA;	// TLS, verified against this file
const where = { host: '127.0.0.1', port, user: process.env.PGUSER || 'postgres', database: 'postgres',
  ssl: ca ? { ca: require('fs').readFileSync(ca) } : false };
const odd = [];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const watch = (client) => ['notice', 'error', 'end'].forEach((event) =>
  client.on(event, (what) => odd.push(event + ' ' + (what && what.message))));

async function idle() {
  const client = new Client(where);
  watch(client);
  await client.connect();
  const pid = async () => (await client.query('select pg_backend_pid() as pid')).rows[0].pid;
  const before = await pid();
  await sleep(number);
  if (await pid() !== before) throw new Error('another session');
  client.removeAllListeners('end');
  await client.end();
}

async function work(pool) {
  for (let i = 0; i < number; i++) {
    const client = await pool.connect();
    await client.query('begin');
    const got = await client.query({ text: 'select $1::int as x', values: [i], name: 's' });
    if (got.rows[0].x !== i) throw new Error('mismatch');
    await client.query('selec').then(() => { throw new Error('no error'); }, () => {});
    await client.query('rollback');
    client.release();
    await sleep(4);
  }
}

async function copies() {
  const client = new Client(where);
  watch(client);
  await client.connect();
  let rows = 0;
  for await (const data of client.query(to('copy (select generate_series(1, 20000)) to stdout'))) {
    rows += data.toString().split('\n').length - 1;
  }
  if (rows !== 20000) throw new Error('COPY OUT ' + rows);
  await client.query('create temp table z(a int)');
  const sink = client.query(from('copy z from stdin'));
  for (let i = 0; i < 5000; i++) sink.write(i + '\n');
  await new Promise((resolve, reject) => { sink.on('finish', resolve).on('error', reject).end(); });
  const got = await client.query('select count(*)::int as n from z');
  if (got.rows[0].n !== 5000) throw new Error('COPY IN ' + got.rows[0].n);
  client.removeAllListeners('end');
  await client.end();
}

async function mix() {
  const pool = new Pool({ ...where, max: 3 });
  pool.on('connect', (client) => client.on('notice', (what) => odd.push(what.message)));
  await Promise.all([0, 1, 2].map(() => work(pool)));
  await pool.end();
  await copies();
}

(mode === 'idle' ? idle() : mix()).then(() => {
  console.log(odd.length === 0 ? 'ok' : odd.join('\n'));
}, (error) => {
  console.log('failed: ' + error.stack);
  process.exit(1);
});
