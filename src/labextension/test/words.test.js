// What a session says of itself, in words.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock, duration, job, memory, offers, sentence } from '../build/lib/words.js';

const NOW = 1_800_000_000;
const warning = {
  id: 'x', since_s: NOW, ends_s: null, used_mib: null, limit_mib: null, at_s: null, words: ''
};

test('lengths of time', () => {
  assert.deepEqual([-5, 40, 59.6, 300, 3599, 7500].map(duration), [
    '0 s', '40 s', '1 min', '5 min', '1 h', '2 h 5 min'
  ]);
});

test('memory', () => {
  assert.deepEqual([0, 640, 4608].map(memory), ['0 MiB', '640 MiB', '4.5 GiB']);
});

test('another day is named', () => {
  assert.match(clock(NOW + 60, NOW), /^[^,]*\d\d.\d\d[^,]*$/);
  assert.match(clock(NOW + 5 * 86400, NOW), /, /);
});

test('each kind of warning is one short sentence', () => {
  const told = [
    { ...warning, kind: 'time', ends_s: NOW + 300 },
    { ...warning, kind: 'idle', ends_s: NOW + 900 },
    { ...warning, kind: 'memory', used_mib: 4200, limit_mib: 4608 }
  ].map(one => sentence(one, NOW));
  assert.match(told[0], /^This server ends in 5 min, at .*: its time is over then\.$/);
  assert.match(told[1], /^Nobody uses this server: it is ended in 15 min, at /);
  assert.match(told[2], /^4\.1 GiB of 4\.5 GiB of memory are in use/);
  // JupyterLab cuts what is longer.
  assert.ok(told.every(words => words.length <= 140), told);
});

test('what a scheduler is about to do is one short sentence, with the reason', () => {
  const words = 'replaces the disks of the whole rack, and the switch';
  const told = [
    { ...warning, kind: 'drain', words, ends_s: NOW + 86400 * 3 },
    { ...warning, kind: 'drain', words },
    { ...warning, kind: 'drain' },
    { ...warning, kind: 'maintenance', words, at_s: NOW + 86400 * 3 },
    { ...warning, kind: 'maintenance', at_s: NOW - 5 },
    { ...warning, kind: 'preemption', ends_s: NOW + 60 }
  ].map(one => sentence(one, NOW));
  assert.match(told[0], /^Its machine is taken out of use \(replaces the .*…\): this server ends in 72 h, at /);
  assert.match(told[1], /^Its machine is being taken out of use \(replaces .*…\): nothing new/);
  assert.match(told[2], /being taken out of use: nothing new starts there/);
  assert.match(told[3], /^Maintenance of its machine begins in 72 h, at .*…\): this server may end then\.$/);
  assert.match(told[4], /^Maintenance of its machine has begun: this server/);
  assert.match(told[5], /another job: this server ends in 1 min, at /);
  assert.ok(told.every(text => text.length <= 140), told);
});

test('more time is offered in steps, up to all that there is', () => {
  const minutes = time => offers({ time, memory: {}, warnings: [] }).map(one => one.minutes);
  assert.deepEqual(minutes({ ends_s: NOW, longest_s: NOW + 90 * 60 }), [60, 90]);
  assert.deepEqual(minutes({ ends_s: NOW, longest_s: NOW + 60 * 60 }), [60]);
  assert.deepEqual(minutes({ ends_s: NOW, longest_s: NOW + 600 * 60 }), [60, 240, 600]);
  assert.deepEqual(minutes({ ends_s: NOW, longest_s: null }), []);
  assert.deepEqual(minutes({}), []);
});

test('a job is named as its scheduler does', () => {
  assert.equal(job({ backend_title: 'HTCondor', job: '12.0' }), 'HTCondor, job 12.0');
});
