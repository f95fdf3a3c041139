use super::*;

fn parse(rest: &str) -> Result<Config, String> {
    Config::parse(&format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{rest}"
    ))
}

#[test]
fn the_defaults_are_upstreams() {
    let config = Config::default();
    let [profile] = &config.profiles[..] else { panic!("one profile") };
    assert_eq!(profile.scheduler_name, "default-scheduler");
    assert_eq!(profile.weight(PluginId::TaintToleration), 3);
    assert_eq!(profile.weight(PluginId::ImageLocality), 1);
    assert_eq!(profile.weight(PluginId::NodePorts), 0);
    assert!(profile.filters.contains(PluginId::VolumeZone) && profile.preempts && profile.gates);
    assert_eq!((config.initial_backoff.as_secs(), config.longest_backoff.as_secs()), (1, 10));
}

#[test]
fn profiles_choose_their_plugins() {
    let config = parse(
        r"
percentageOfNodesToScore: 30
profiles:
- schedulerName: packing
  plugins:
    score:
      disabled: [{name: '*'}]
      enabled: [{name: NodeResourcesFit, weight: 7}]
    filter:
      disabled: [{name: NodePorts}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      ignoredResourceGroups: [example.com]
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}, {name: memory}]}
- schedulerName: bare
  percentageOfNodesToScore: 100
  plugins:
    multiPoint:
      disabled: [{name: '*'}]
      enabled: [{name: PrioritySort}, {name: DefaultBinder}, {name: ImageLocality, weight: 4}]
leaderElection: {leaderElect: false, leaseDuration: 1m30s}
",
    )
    .unwrap();
    let [packing, bare] = &config.profiles[..] else { panic!("two profiles") };
    assert_eq!(packing.weight(PluginId::NodeResourcesFit), 7);
    assert_eq!(packing.weight(PluginId::TaintToleration), 0);
    assert!(
        packing.filters.contains(PluginId::TaintToleration) && !packing.filters.contains(PluginId::NodePorts)
    );
    assert_eq!(packing.fit.strategy, Strategy::MostAllocated);
    assert_eq!(packing.fit.resources.iter().map(|resource| resource.weight).collect::<Vec<_>>(), [3, 1]);
    assert!(packing.fit.ignores("example.com/gpu") && !packing.fit.ignores("other.com/gpu"));
    assert!(bare.filters.is_empty() && !bare.preempts && !bare.gates);
    assert_eq!(bare.weight(PluginId::ImageLocality), 4);
    let percentages = [packing, bare].map(|profile| profile.percentage_of_nodes_to_score);
    assert_eq!(percentages, [Some(30), Some(100)]);
    assert_eq!(config.leader_election.lease_duration, Some(Duration::from_secs(90)));
}

#[test]
fn what_cannot_be_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = parse(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("profiles: [{schedulerName: a}, {schedulerName: a}]", "there twice");
    check("profiles: [{schedulerName: a}, {}]", "schedulerName is required");
    check("profiles: [{plugins: {score: {enabled: [{name: Mine}]}}}]", "is no plugin");
    check("profiles: [{plugins: {bind: {disabled: [{name: '*'}]}}}]", "DefaultBinder");
    check("percentageOfNodesToScore: 101", "range");
    check("podMaxBackoffSeconds: 0", "podMaxBackoffSeconds");
    check("extenders: [{urlPrefix: 'http://x', prioritizeVerb: p}]", "weight");
    check("leaderElection: {leaseDuration: soon}", "duration");
    check("surprise: 1", "surprise");
    check(
        "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultingType: System, defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}}]}]",
        "List",
    );
    check(
        "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio}}}]}]",
        "shape",
    );
    assert!(Config::parse("kind: Pod").unwrap_err().contains("KubeSchedulerConfiguration"));
}

#[test]
fn a_shape_is_a_line_through_its_points() {
    let text = "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 20, score: 0}, {utilization: 80, score: 10}]}}}}]}]";
    let config = parse(text).unwrap();
    let Strategy::RequestedToCapacityRatio(shape) = &config.profiles[0].fit.strategy else { panic!() };
    let scores = [0, 20, 50, 80, 100].map(|utilization| shape.at(utilization));
    assert_eq!(scores, [0, 0, 50, 100, 100]);
}
